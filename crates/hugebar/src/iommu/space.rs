//! An address space of either kind, and mapping memory into it.

#![allow(unsafe_code, reason = "hands addresses to the kernel")]

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::{Arc, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::facts;
use crate::leaf::Bytes;
use crate::pci::Resource;
use crate::sys::{abi, iommufd, process, vfio};

use super::container::{Container, Group, IommuKind};
use super::ioas::Ioas;
use super::iova::{IovaRange, Iovas, Wish};
use super::{locked, pages};

/// Linux before 5.4 does not report the ranges; every IOMMU has this one.
const UNTOLD: IovaRange = IovaRange {
    first: 0,
    last: (1 << 39) - 1,
};

/// What devices may do with memory mapped for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaAccess {
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
}

/// The I/O address space of a device, in a container or an iommufd. Memory is mapped into it for DMA
/// ([`crate::vfio::Device::address_space`]).
///
/// It keeps the device's group open: type1 drops all mappings when the last group of a container is closed.
#[derive(Clone, Debug)]
pub struct AddressSpace(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Container {
        container: Arc<Container>,
        /// `None` if other code keeps the groups open.
        _group: Option<Arc<Group>>,
    },
    Ioas(Arc<Ioas>),
}

impl From<Arc<Ioas>> for AddressSpace {
    fn from(ioas: Arc<Ioas>) -> Self {
        Self(Kind::Ioas(ioas))
    }
}

impl AddressSpace {
    /// The address space of a container, with the group to keep open; [`ErrorKind::Unsupported`] without an IOMMU, where
    /// devices use physical addresses.
    pub(crate) fn of_container(
        container: &Arc<Container>,
        group: Option<&Arc<Group>>,
    ) -> Result<Self> {
        if container.kind() == IommuKind::None {
            let operation = "memory cannot be mapped for DMA without an IOMMU";
            return Err(Error::new(ErrorKind::Unsupported, operation));
        }
        Ok(Self(Kind::Container {
            container: container.clone(),
            _group: group.cloned(),
        }))
    }
}

/// The I/O addresses that a mapping needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Length in bytes, whole pages.
    pub(crate) len: u64,
    /// The address that they are congruent to, for the largest pages of the IOMMU: the memory's address in this process,
    /// or the physical one.
    pub(crate) congruent_with: u64,
    /// The last I/O address that the device can reach.
    pub(crate) last: u64,
}

/// What is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// Memory of this process, from an address on.
    Memory(NonNull<u8>),
    /// A dma-buf, from its start on.
    DmaBuf(BorrowedFd<'a>),
}

/// How device memory is mapped into an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceMemory {
    /// Like other memory, by its address in this process (`VFIO_IOMMU_MAP_DMA`).
    ByAddress,
    /// By a dma-buf (`IOMMU_IOAS_MAP_FILE`), which the kernel revokes when memory decode of the device is turned off.
    ByDmaBuf,
}

impl AddressSpace {
    /// Returns the I/O addresses that can be mapped with the devices attached now (`VFIO_IOMMU_GET_INFO`,
    /// `IOMMU_IOAS_IOVA_RANGES`).
    ///
    /// # Errors
    ///
    /// The error of the ioctl.
    pub fn iova_ranges(&self) -> Result<Vec<IovaRange>> {
        let ranges = match &self.0 {
            Kind::Container { container, .. } => container.iova_ranges(),
            Kind::Ioas(ioas) => ioas.iova_ranges(),
        }?;
        Ok(match ranges.is_empty() {
            true => vec![UNTOLD],
            false => ranges,
        })
    }

    /// Returns how many more bytes this process may map before it reaches `RLIMIT_MEMLOCK` (`getrlimit`,
    /// `/proc/self/status`). `None` without a limit, with `CAP_IPC_LOCK`, and on an iommufd, which counts all processes of a
    /// user together. [`AddressSpace::map_owned`] checks this before it asks the kernel.
    pub fn lockable(&self) -> Option<u64> {
        if self.charges_process() {
            locked::left()
        } else {
            None
        }
    }

    fn charges_process(&self) -> bool {
        matches!(&self.0, Kind::Container { container, .. } if container.kind() == IommuKind::Type1)
    }

    /// Whether this much more memory may be locked, as far as can be known before the kernel tries.
    pub(crate) fn check_lockable(&self, bytes: u64) -> Result<()> {
        match self.charges_process() {
            true => locked::check(bytes),
            false => Ok(()),
        }
    }

    /// Returns how many more mappings are possible ([`Container::mappings_left`]); `None` without a limit, or if the kernel
    /// does not report it.
    ///
    /// # Errors
    ///
    /// The error of the ioctl.
    pub fn mappings_left(&self) -> Result<Option<u32>> {
        match &self.0 {
            Kind::Container { container, .. } => container.mappings_left(),
            Kind::Ioas(_) => Ok(None),
        }
    }

    /// Maps nothing at the I/O addresses of this memory, which PCI decodes itself.
    pub(crate) fn keep_clear_of(&self, memory: &[Resource]) {
        let mut iovas = self.lock_iovas();
        for resource in memory {
            iovas.keep_clear_of(resource.start, resource.size);
        }
    }

    /// How device memory is mapped here.
    pub(crate) fn device_memory(&self) -> DeviceMemory {
        match &self.0 {
            Kind::Container { container, .. } if container.kind() == IommuKind::Type1 => {
                DeviceMemory::ByAddress
            }
            _ => DeviceMemory::ByDmaBuf,
        }
    }

    /// Takes free, congruent I/O addresses, lets `map` map them, and returns the first. Addresses that turn out to be
    /// mapped by other code are never tried again.
    pub(crate) fn place(
        &self,
        room: &Room,
        mut map: impl FnMut(u64) -> Result<(), Refused>,
    ) -> Result<u64> {
        let ranges = self.iova_ranges()?;
        let pages = pages::of_iommu(facts::leaf_sizes());
        let mut modulus = pages::largest(room.len, &pages);
        let mut theirs = room.len;
        loop {
            let wish = Wish {
                len: room.len,
                congruent_with: room.congruent_with,
                modulus,
                last: room.last,
            };
            let Some(iova) = self.lock_iovas().take(&ranges, &wish) else {
                // Smaller IOMMU pages are better than no mapping.
                modulus =
                    pages::smaller(modulus, &pages).ok_or_else(|| no_addresses(&ranges, room))?;
                continue;
            };
            match map(iova) {
                Ok(()) => return Ok(iova),
                Err(Refused::Taken) => {
                    // How much is mapped there is not known, so each try skips more.
                    self.lock_iovas().withhold(iova, theirs);
                    theirs = theirs.saturating_mul(2);
                }
                Err(Refused::Stuck(error)) => return Err(error),
                Err(Refused::Otherwise(error)) => {
                    self.give_back(iova, room.len);
                    return Err(error);
                }
            }
        }
    }

    /// Maps at I/O addresses taken before (`VFIO_IOMMU_MAP_DMA`, `IOMMU_IOAS_MAP`, `IOMMU_IOAS_MAP_FILE`).
    ///
    /// # Safety
    ///
    /// Until it is unmapped, a device can read and write the memory at any time:
    /// * it must contain no Rust object, and nothing may borrow it;
    /// * memory of this process must stay mapped and belong to the caller.
    pub(crate) unsafe fn map_at(
        &self,
        source: Source<'_>,
        len: u64,
        access: DmaAccess,
        iova: u64,
    ) -> Result<(), Refused> {
        let writes = access == DmaAccess::ReadWrite;
        let (name, mapped) = match (&self.0, source) {
            (Kind::Container { container, .. }, Source::Memory(memory)) => {
                let write = if writes { abi::DMA_WRITE } else { 0 };
                let flags = abi::DMA_READ | write;
                let container = container.as_fd();
                // SAFETY: the caller's contract.
                let mapped = unsafe { vfio::iommu_map_dma(container, flags, memory, iova, len) };
                (vfio::IOMMU_MAP_DMA.name, mapped)
            }
            (Kind::Ioas(ioas), Source::Memory(memory)) => {
                let (fd, id, flags) = (ioas.as_fd(), ioas.id(), ioas_flags(writes));
                // SAFETY: the caller's contract.
                let mapped = unsafe { iommufd::ioas_map(fd, id, flags, memory, iova, len) };
                (iommufd::IOAS_MAP.name, mapped)
            }
            (_, Source::DmaBuf(file)) => {
                let mapped = self.iommufd().and_then(|(fd, id)| {
                    let flags = ioas_flags(writes);
                    // SAFETY: the caller's contract.
                    unsafe { iommufd::ioas_map_file(fd, id, flags, file, iova, len) }
                });
                (iommufd::IOAS_MAP_FILE.name, mapped)
            }
        };
        mapped.map_err(|errno| match errno {
            Errno::EXIST | Errno::ADDRINUSE => Refused::Taken,
            _ => Refused::Otherwise(self.refused(Error::call(name, errno), errno, source, len)),
        })
    }

    /// The iommufd, and the id of the address space there.
    fn iommufd(&self) -> rustix::io::Result<(BorrowedFd<'_>, u32)> {
        match &self.0 {
            Kind::Container { container, .. } => {
                let fd = container.as_fd();
                Ok((fd, iommufd::vfio_ioas(fd)?))
            }
            Kind::Ioas(ioas) => Ok((ioas.as_fd(), ioas.id())),
        }
    }

    /// Unmaps, and frees the I/O addresses (`VFIO_IOMMU_UNMAP_DMA`, `IOMMU_IOAS_UNMAP`). After an error a device may still
    /// reach the memory, so the addresses are never used again.
    pub(crate) fn unmap(&self, iova: u64, len: u64) -> Result<()> {
        self.unmap_at(iova, len)?;
        self.give_back(iova, len);
        Ok(())
    }

    /// Like [`AddressSpace::unmap`], but the I/O addresses stay taken.
    pub(crate) fn unmap_at(&self, iova: u64, len: u64) -> Result<()> {
        let (name, unmapped) = match &self.0 {
            Kind::Container { container, .. } => (
                vfio::IOMMU_UNMAP_DMA.name,
                vfio::iommu_unmap_dma(container.as_fd(), iova, len),
            ),
            Kind::Ioas(ioas) => (
                iommufd::IOAS_UNMAP.name,
                iommufd::ioas_unmap(ioas.as_fd(), ioas.id(), iova, len),
            ),
        };
        let error = match unmapped {
            Ok(unmapped) if unmapped == len => return Ok(()),
            Ok(unmapped) => {
                let operation = format!("{name}: unmapped {unmapped:#x} bytes of {len:#x}");
                Error::new(ErrorKind::Malformed, operation)
            }
            Err(errno) => Error::call(name, errno),
        };
        Err(error.on(format!("IOVA {iova:#x}")))
    }

    fn lock_iovas(&self) -> MutexGuard<'_, Iovas> {
        let iovas = match &self.0 {
            Kind::Container { container, .. } => container.iovas(),
            Kind::Ioas(ioas) => ioas.iovas(),
        };
        iovas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees I/O addresses at which nothing is mapped any more.
    pub(crate) fn give_back(&self, iova: u64, len: u64) {
        self.lock_iovas().give_back(iova, len);
    }

    /// Explains why the kernel refused to map `len` bytes.
    fn refused(&self, error: Error, errno: Errno, source: Source<'_>, len: u64) -> Error {
        let by_file = matches!(source, Source::DmaBuf(_));
        let error = match by_file {
            true => error,
            false => error.on(format!("{} for DMA", Bytes(len))),
        };
        match errno {
            // `vfio_pci_dma_buf_iommufd_map` returns ENODEV for a revoked dma-buf.
            Errno::NODEV if by_file => error
                .of_kind(ErrorKind::NotMappableForDma)
                .with_remedy("turn memory decode of the BAR's device on"),
            Errno::NOTTY | Errno::INVAL | Errno::OPNOTSUPP | Errno::BADFD if by_file => error
                .of_kind(ErrorKind::Unsupported)
                .with_remedy(
                    "this kernel's iommufd cannot map BARs (Linux 6.19 can): use a type1 container",
                ),
            Errno::FAULT => error
                .of_kind(ErrorKind::NotMappableForDma)
                .with_remedy("for device memory: turn memory decode of its device on"),
            Errno::NOMEM => {
                let limit = process::locked_memory_limit();
                let limit = limit.map_or("unlimited".into(), |limit| Bytes(limit).to_string());
                error.with_remedy(format!(
                    "memory for DMA is locked and counts towards RLIMIT_MEMLOCK, which is {limit}: {}",
                    locked::REMEDY
                ))
            }
            Errno::NOSPC => error.of_kind(ErrorKind::OutOfMemory).with_remedy(
                "the container is at its limit of mappings (dma_entry_limit of vfio_iommu_type1, by default 65535): map \
                 larger pieces",
            ),
            Errno::INVAL if matches!(self.0, Kind::Ioas(_)) => {
                error.with_remedy("check that a device is attached to the address space")
            }
            _ => error,
        }
    }
}

/// Why something was not mapped at an I/O address.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Something else is mapped there.
    Taken,
    /// A part was mapped and could not be unmapped.
    Stuck(Error),
    Otherwise(Error),
}

impl Refused {
    /// The error, if trying other addresses cannot help.
    pub(crate) fn into_error(self, iova: u64) -> Error {
        match self {
            Self::Taken => Error::new(
                ErrorKind::Busy,
                "something else is mapped at these I/O addresses",
            )
            .on(format!("IOVA {iova:#x}")),
            Self::Stuck(error) | Self::Otherwise(error) => error,
        }
    }
}

fn ioas_flags(writes: bool) -> u32 {
    let write = if writes { abi::IOAS_MAP_WRITEABLE } else { 0 };
    abi::IOAS_MAP_READABLE | write
}

/// The error for a lack of I/O addresses, with the width of the IOMMU's or of the device's addresses.
fn no_addresses(ranges: &[IovaRange], room: &Room) -> Error {
    let reach = ranges.iter().map(|range| range.last).max().unwrap_or(0);
    let width = |last: u64| u64::BITS - last.leading_zeros();
    let operation = if room.last < reach {
        format!(
            "no I/O addresses are left for {} within the {} bits that the device can address",
            Bytes(room.len),
            width(room.last)
        )
    } else {
        format!(
            "no I/O addresses are left for {}: the IOMMU has addresses of {} bits",
            Bytes(room.len),
            width(reach)
        )
    };
    Error::new(ErrorKind::OutOfMemory, operation)
}
