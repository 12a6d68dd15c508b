//! An address space of either kind, and mapping memory in it.

#![allow(unsafe_code, reason = "hands addresses to the kernel")]

use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::facts;
use crate::leaf::{Bytes, GIB, LeafSizes};
use crate::sys::{abi, iommufd, process, vfio};

use super::container::{Container, Group, IommuKind};
use super::ioas::Ioas;
use super::iova::{IovaRange, Iovas, Wish};

/// Before Linux 5.4 the kernel does not tell; every IOMMU has these.
const UNTOLD: IovaRange = IovaRange {
    first: 0,
    last: (1 << 39) - 1,
};

/// What devices may do with memory that is mapped for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaAccess {
    /// They read it.
    Read,
    /// They read and write it.
    ReadWrite,
}

/// The I/O address space that a device is in, whether a container's or an iommufd's: where memory is mapped for
/// DMA ([`crate::vfio::Device::address_space`]).
///
/// It keeps the device's group open: type1 forgets all mappings when the last group of a container is closed.
#[derive(Clone, Debug)]
pub struct AddressSpace(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Container {
        container: Arc<Container>,
        /// `None` where somebody else keeps the groups open.
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
    /// That of a container, with the group to keep open; [`ErrorKind::Unsupported`] without an IOMMU, where devices
    /// reach all of memory at its physical addresses.
    pub(crate) fn of_container(
        container: &Arc<Container>,
        group: Option<&Arc<Group>>,
    ) -> Result<Self> {
        if container.kind() == IommuKind::None {
            let operation = "without an IOMMU there are no I/O addresses to map memory at";
            return Err(Error::new(ErrorKind::Unsupported, operation));
        }
        Ok(Self(Kind::Container {
            container: container.clone(),
            _group: group.cloned(),
        }))
    }
}

/// Memory that is to be mapped for DMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) memory: NonNull<u8>,
    /// Bytes, whole pages.
    pub(crate) len: u64,
    pub(crate) access: DmaAccess,
    /// The last I/O address that the device can reach.
    pub(crate) last: u64,
}

impl AddressSpace {
    /// The I/O addresses that can be mapped, with the devices that are attached now (`VFIO_IOMMU_GET_INFO`,
    /// `IOMMU_IOAS_IOVA_RANGES`).
    ///
    /// # Errors
    ///
    /// Whatever the ioctl says.
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

    fn iovas(&self) -> &Mutex<Iovas> {
        match &self.0 {
            Kind::Container { container, .. } => container.iovas(),
            Kind::Ioas(ioas) => ioas.iovas(),
        }
    }

    /// Maps memory at an I/O address that is free and congruent with its own (`VFIO_IOMMU_MAP_DMA`,
    /// `IOMMU_IOAS_MAP`), and tells that address.
    ///
    /// # Safety
    ///
    /// Until it is unmapped, a device can read and write that memory at any time:
    /// * nothing there may be a Rust object, or be borrowed;
    /// * it must stay mapped, and belong to the caller.
    pub(crate) unsafe fn map(&self, target: &Target) -> Result<u64> {
        let ranges = self.iova_ranges()?;
        let address = target.memory.addr().get() as u64;
        let pages = pages(facts::leaf_sizes());
        let mut modulus = largest_page(target.len, &pages);
        loop {
            let wish = Wish {
                len: target.len,
                congruent_with: address,
                modulus,
                last: target.last,
            };
            let mut iovas = self.iovas().lock().unwrap_or_else(PoisonError::into_inner);
            let Some(iova) = iovas.take(&ranges, &wish) else {
                // Smaller pages of the IOMMU are better than none.
                modulus =
                    smaller_page(modulus, &pages).ok_or_else(|| no_addresses(&ranges, target))?;
                continue;
            };
            drop(iovas);
            // SAFETY: the caller's contract.
            match unsafe { self.map_at(target, iova) } {
                Ok(()) => return Ok(iova),
                // Somebody has mapped something there without us: these addresses stay taken.
                Err(Errno::EXIST | Errno::ADDRINUSE) => (),
                Err(errno) => {
                    self.give_back(iova, target.len);
                    return Err(self.refused(errno, target));
                }
            }
        }
    }

    /// # Safety
    ///
    /// As for [`AddressSpace::map`].
    unsafe fn map_at(&self, target: &Target, iova: u64) -> rustix::io::Result<()> {
        let (memory, len) = (target.memory, target.len);
        let writes = target.access == DmaAccess::ReadWrite;
        match &self.0 {
            Kind::Container { container, .. } => {
                let write = if writes { abi::DMA_WRITE } else { 0 };
                let flags = abi::DMA_READ | write;
                // SAFETY: the caller's contract.
                unsafe { vfio::iommu_map_dma(container.as_fd(), flags, memory, iova, len) }
            }
            Kind::Ioas(ioas) => {
                let write = if writes { abi::IOAS_MAP_WRITEABLE } else { 0 };
                let flags = abi::IOAS_MAP_READABLE | write;
                // SAFETY: the caller's contract.
                unsafe { iommufd::ioas_map(ioas.as_fd(), ioas.id(), flags, memory, iova, len) }
            }
        }
    }

    /// Unmaps what [`AddressSpace::map`] has mapped (`VFIO_IOMMU_UNMAP_DMA`, `IOMMU_IOAS_UNMAP`). After an error a
    /// device may reach the memory still, and nothing else is ever mapped at these addresses.
    pub(crate) fn unmap(&self, iova: u64, len: u64) -> Result<()> {
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
            Ok(unmapped) if unmapped == len => {
                self.give_back(iova, len);
                return Ok(());
            }
            Ok(unmapped) => {
                let operation = format!("{name}: unmapped {unmapped:#x} bytes of {len:#x}");
                Error::new(ErrorKind::Malformed, operation)
            }
            Err(errno) => Error::call(name, errno),
        };
        Err(error.on(format!("IOVA {iova:#x}")))
    }

    fn give_back(&self, iova: u64, len: u64) {
        let mut iovas = self.iovas().lock().unwrap_or_else(PoisonError::into_inner);
        iovas.give_back(iova, len);
    }

    fn refused(&self, errno: Errno, target: &Target) -> Error {
        let name = match &self.0 {
            Kind::Container { .. } => vfio::IOMMU_MAP_DMA.name,
            Kind::Ioas(_) => iommufd::IOAS_MAP.name,
        };
        let error = Error::call(name, errno).on(format!("{} for DMA", Bytes(target.len)));
        match errno {
            Errno::NOMEM => {
                let limit = process::locked_memory_limit();
                let limit = limit.map_or("unlimited".into(), |limit| Bytes(limit).to_string());
                error.with_remedy(format!(
                    "memory for DMA is locked, and charged to RLIMIT_MEMLOCK, which is {limit}: raise it (ulimit -l, \
                     LimitMEMLOCK= of systemd)"
                ))
            }
            Errno::NOSPC => error.of_kind(ErrorKind::OutOfMemory).with_remedy(
                "a container has no more mappings to give (dma_entry_limit of vfio_iommu_type1, 65535 unless set): map \
                 larger pieces",
            ),
            Errno::INVAL if matches!(self.0, Kind::Ioas(_)) => {
                error.with_remedy("is a device attached to the address space?")
            }
            _ => error,
        }
    }
}

/// The pages of an IOMMU on a machine whose own leaves have these sizes: those of page tables. With 4 KiB pages they go
/// up to 1 GiB also where the CPU has none, with those of arm64 that are larger not beyond the CPU's
/// (`arm_lpae_restrict_pgsizes`: 16 KiB and 32 MiB, 64 KiB and 512 MiB).
fn pages(leaves: LeafSizes) -> LeafSizes {
    let next = leaves.missing().filter(|with| with.largest() <= GIB);
    next.unwrap_or(leaves)
}

/// The largest page that fits.
fn largest_page(len: u64, pages: &LeafSizes) -> u64 {
    let mut sizes = pages.as_slice().iter().rev();
    let fitting = sizes.find(|&&size| size <= len);
    fitting.copied().unwrap_or(pages.base())
}

fn smaller_page(size: u64, pages: &LeafSizes) -> Option<u64> {
    pages.below(size).map(|smaller| smaller.largest())
}

/// There is no room: says how far the IOMMU reaches, or the device.
fn no_addresses(ranges: &[IovaRange], target: &Target) -> Error {
    let reach = ranges.iter().map(|range| range.last).max().unwrap_or(0);
    let width = |last: u64| u64::BITS - last.leading_zeros();
    let operation = if target.last < reach {
        format!(
            "no I/O addresses are left for {} below {} bits, which the device can reach",
            Bytes(target.len),
            width(target.last)
        )
    } else {
        format!(
            "no I/O addresses are left for {}: the IOMMU has addresses of {} bits",
            Bytes(target.len),
            width(reach)
        )
    };
    Error::new(ErrorKind::OutOfMemory, operation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::{KIB, MIB};

    #[test]
    fn pages_are_those_of_the_machine() {
        let x86 = LeafSizes::X86_64;
        for (own, sizes) in [
            (x86, &[4 * KIB, 2 * MIB, GIB][..]),
            (x86.below(GIB).unwrap(), &[4 * KIB, 2 * MIB, GIB]),
            (LeafSizes::ARM64_4K, &[4 * KIB, 2 * MIB, GIB]),
            (LeafSizes::ARM64_16K, &[16 * KIB, 32 * MIB]),
            (LeafSizes::ARM64_64K, &[64 * KIB, 512 * MIB]),
        ] {
            let pages = pages(own);
            assert_eq!(pages.as_slice(), sizes);
            // From the largest that fits down to the smallest.
            let mut page = largest_page(768 * MIB, &pages);
            let mut tried = vec![page];
            while let Some(smaller) = smaller_page(page, &pages) {
                page = smaller;
                tried.push(page);
            }
            let mut fitting: Vec<_> = sizes.to_vec();
            fitting.retain(|&size| size <= 768 * MIB);
            fitting.reverse();
            assert_eq!(tried, fitting);
            assert_eq!(largest_page(1, &pages), sizes[0]);
            assert_eq!(largest_page(u64::MAX, &pages), *sizes.last().unwrap());
        }
    }
}
