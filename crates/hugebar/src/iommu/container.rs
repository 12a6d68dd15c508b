//! Containers: the IOMMU address space of one or more groups (`/dev/vfio/vfio`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

use rustix::io::Errno;

use crate::caps;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::abi::{self, IommuInfo};
use crate::sys::{file, iommufd, process, vfio};

use super::iova::{IovaRange, Iovas};

const NODE: &str = "/dev/vfio/vfio";

/// The kind of a container's IOMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IommuKind {
    /// An IOMMU driven by type1, which can map device memory and so populate BARs.
    Type1,
    /// An IOMMU driven by an iommufd that answers like a container (`CONFIG_IOMMUFD_VFIO_CONTAINER`). It
    /// maps memory, but cannot map device memory.
    Iommufd,
    /// No IOMMU: devices reach all memory (`CONFIG_VFIO_NOIOMMU`).
    None,
}

/// An IOMMU address space for devices.
#[derive(Debug)]
pub struct Container {
    fd: OwnedFd,
    kind: IommuKind,
    groups: Groups,
    iovas: Mutex<Iovas>,
}

/// The groups that are open in a container. A group can be opened only once, so devices of one group
/// share it.
#[derive(Debug, Default)]
struct Groups {
    open: Mutex<Vec<(u32, Weak<Group>)>>,
    /// Notified when a group was closed.
    closed: Condvar,
}

/// A group that is attached to a container.
///
/// It is closed before its container, which keeps other threads from opening it meanwhile.
#[derive(Debug)]
pub(crate) struct Group {
    number: u32,
    /// Taken when it is dropped.
    fd: Option<OwnedFd>,
    container: Arc<Container>,
}

impl Group {
    /// The group's number.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Its container.
    pub(crate) fn container(&self) -> &Arc<Container> {
        &self.container
    }

    /// Its descriptor, while it is open.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            self.container.close(self.number, fd);
        }
    }
}

impl Container {
    /// Opens a container (`/dev/vfio/vfio`) and checks that it supports type1 version 2.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] without the vfio modules, [`ErrorKind::PermissionDenied`],
    /// [`ErrorKind::Unsupported`] if the kernel has no type1 IOMMU.
    pub fn open() -> Result<Arc<Self>> {
        Self::from_fd(open_node()?)
    }

    /// Opens a container for devices that have no IOMMU. The administrator must have allowed it
    /// (`vfio.enable_unsafe_noiommu_mode`), and the process needs `CAP_SYS_RAWIO`.
    ///
    /// # Errors
    ///
    /// As [`Container::open`]; [`ErrorKind::Unsupported`] if the mode is not allowed.
    ///
    /// # Safety
    ///
    /// A device of this container can read and write all memory, including this process's. Whatever the device is made
    /// to do, for example by writes to its registers, it must not write to memory that is in use.
    #[allow(
        unsafe_code,
        reason = "a contract with the caller; nothing in it is unsafe"
    )]
    pub unsafe fn open_without_iommu() -> Result<Arc<Self>> {
        let container = Self::checked(open_node()?, abi::NOIOMMU_IOMMU, IommuKind::None)?;
        container.ok_or_else(|| {
            let operation = "no-IOMMU mode is not allowed here";
            Error::new(ErrorKind::Unsupported, operation)
                .on(NODE)
                .with_remedy(
                    "if the device may reach all memory, allow it with \
                     vfio.enable_unsafe_noiommu_mode=1 (CONFIG_VFIO_NOIOMMU)",
                )
        })
    }

    /// A container of a kind, or `None` if it does not support the IOMMU type.
    fn checked(fd: OwnedFd, extension: u32, kind: IommuKind) -> Result<Option<Arc<Self>>> {
        let refused = |errno| Error::call(vfio::GET_API_VERSION.name, errno).on(NODE);
        let version = vfio::get_api_version(fd.as_fd()).map_err(refused)?;
        if version != abi::API_VERSION {
            let operation = format!("VFIO API version {version} is unknown");
            return Err(Error::new(ErrorKind::Unsupported, operation).on(NODE));
        }
        let known = vfio::check_extension(fd.as_fd(), extension)
            .map_err(|errno| Error::call(vfio::CHECK_EXTENSION.name, errno).on(NODE))?;
        Ok(known.then(|| {
            Arc::new(Self {
                fd,
                kind,
                groups: Groups::default(),
                iovas: Mutex::default(),
            })
        }))
    }

    /// Takes an open descriptor of a container, with or without groups. The descriptor
    /// becomes close-on-exec.
    ///
    /// # Errors
    ///
    /// As [`Container::open`], and any error of the ioctls on a wrong file.
    pub fn from_fd(fd: OwnedFd) -> Result<Arc<Self>> {
        process::close_on_exec(fd.as_fd()).map_err(|errno| Error::call("fcntl", errno).on(NODE))?;
        // Only an iommufd knows this request, whether or not it already has an address space for VFIO.
        let kind = match iommufd::vfio_ioas(fd.as_fd()) {
            Ok(_) | Err(Errno::NODEV) => IommuKind::Iommufd,
            Err(_) => IommuKind::Type1,
        };
        let container = Self::checked(fd, abi::TYPE1V2_IOMMU, kind)?;
        container.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "this kernel has no type1 IOMMU")
                .on(NODE)
                .with_remedy("load the module vfio_iommu_type1")
        })
    }

    /// The used I/O addresses.
    pub(super) fn iovas(&self) -> &Mutex<Iovas> {
        &self.iovas
    }

    /// The kind of the container's IOMMU.
    pub fn kind(&self) -> IommuKind {
        self.kind
    }

    /// The group of this number, attached if it is not yet. `attach` opens and attaches it; its argument says
    /// whether it is the container's first.
    pub(crate) fn group(
        self: &Arc<Self>,
        number: u32,
        attach: impl FnOnce(bool) -> Result<OwnedFd>,
    ) -> Result<Arc<Group>> {
        // Held while opening, so that two threads do not open the same group twice.
        let open = self.groups.open.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner);
        loop {
            let known = open.iter().find(|(own, _)| *own == number);
            let Some((_, group)) = known else { break };
            if let Some(group) = group.upgrade() {
                return Ok(group);
            }
            // Another thread is just closing it, so it would still be busy.
            let waited = self.groups.closed.wait(open);
            open = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let fd = Some(attach(open.is_empty())?);
        let container = self.clone();
        let group = Arc::new(Group {
            number,
            fd,
            container,
        });
        open.push((number, Arc::downgrade(&group)));
        Ok(group)
    }

    /// Closes a group after its last user.
    fn close(&self, number: u32, fd: OwnedFd) {
        let open = self.groups.open.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner);
        drop(fd);
        open.retain(|(own, _)| *own != number);
        self.groups.closed.notify_all();
    }

    /// The I/O addresses that can be mapped (`VFIO_IOMMU_GET_INFO`); none if the kernel does not
    /// report them (before Linux 5.4).
    pub fn iova_ranges(&self) -> Result<Vec<IovaRange>> {
        let list = |body: &[u8]| {
            let pairs = caps::pairs(body)?;
            let range = |pair: &abi::Pair| IovaRange {
                first: pair.first,
                last: pair.second,
            };
            Ok(pairs.iter().map(range).collect())
        };
        let ranges = self.capability(abi::CAP_IOVA_RANGE, list)?;
        Ok(ranges.unwrap_or_default())
    }

    /// How many more mappings the container takes (`VFIO_IOMMU_GET_INFO`): `dma_entry_limit` of the module
    /// `vfio_iommu_type1`, 65,535 unless set, less what is mapped. `None` where the kernel does not tell (before Linux
    /// 5.10, and iommufd, which has no such limit).
    pub fn mappings_left(&self) -> Result<Option<u32>> {
        self.capability(abi::CAP_DMA_AVAIL, |body| {
            let number = body.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
            number.ok_or_else(|| Error::new(ErrorKind::Malformed, "a capability is too short"))
        })
    }

    /// What one capability of the container says, which `read` makes of its body.
    fn capability<T>(&self, id: u16, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<Option<T>> {
        let refused = |errno| Error::call(vfio::IOMMU_GET_INFO.name, errno).on(NODE);
        let (info, answer) = vfio::iommu_get_info(self.fd.as_fd()).map_err(refused)?;
        if info.flags & abi::IOMMU_CAPS == 0 {
            return Ok(None);
        }
        let chain = caps::chain(&answer, size_of::<IommuInfo>(), info.cap_offset);
        let found = chain.and_then(|chain| {
            let capability = caps::only(&chain, id, 1)?;
            capability
                .map(|capability| read(capability.body))
                .transpose()
        });
        found.map_err(|error| error.on(NODE))
    }
}

fn open_node() -> Result<OwnedFd> {
    file::open_read_write(Path::new(NODE)).map_err(|errno| {
        let error = Error::call("open", errno).on(NODE);
        match errno {
            Errno::NOENT | Errno::NODEV => error.with_remedy(
                "load the module vfio-pci; if it is loaded, pass the node into this container or jail",
            ),
            Errno::ACCESS | Errno::PERM => error.with_remedy("this process may not use VFIO"),
            _ => error,
        }
    })
}

impl AsFd for Container {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
