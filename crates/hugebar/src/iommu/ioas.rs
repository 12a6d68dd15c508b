//! Address spaces of iommufd (`/dev/iommu`), for devices opened by their own node.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::abi::Pair;
use crate::sys::fork::{Process, this_process};
use crate::sys::{file, iommufd, process};

use super::iova::{IovaRange, Iovas};

const NODE: &str = "/dev/iommu";

/// An I/O address space of an iommufd, to which devices are attached.
///
/// iommufd maps memory into it, but not device memory, so it cannot populate BARs.
#[derive(Debug)]
pub struct Ioas {
    iommufd: Arc<OwnedFd>,
    id: u32,
    /// Whether the address space is ours to destroy, and not made by other code on the same iommufd.
    owned: bool,
    /// The process that made it.
    process: Process,
    iovas: Mutex<Iovas>,
}

impl Ioas {
    /// Opens an iommufd (`/dev/iommu`) and makes an address space on it (`IOMMU_IOAS_ALLOC`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] on a kernel without iommufd, [`ErrorKind::PermissionDenied`].
    pub fn open() -> Result<Arc<Self>> {
        let fd = file::open_read_write(Path::new(NODE)).map_err(|errno| {
            let error = Error::call("open", errno).on(NODE);
            match errno {
                Errno::NOENT | Errno::NODEV | Errno::NXIO => error
                    .of_kind(ErrorKind::Unsupported)
                    .with_remedy("this kernel has no iommufd, or its module is not loaded"),
                Errno::ACCESS | Errno::PERM => {
                    error.with_remedy("this process may not use iommufd")
                }
                _ => error,
            }
        })?;
        Self::on(fd)
    }

    /// Makes an address space on an open iommufd (`IOMMU_IOAS_ALLOC`). The descriptor becomes
    /// close-on-exec.
    ///
    /// # Errors
    ///
    /// If the file is not an iommufd.
    pub fn on(iommufd: OwnedFd) -> Result<Arc<Self>> {
        close_on_exec(&iommufd)?;
        Self::allocate(Arc::new(iommufd))
    }

    /// Makes another address space on the same iommufd.
    pub fn sibling(&self) -> Result<Arc<Self>> {
        Self::allocate(self.iommufd.clone())
    }

    fn allocate(iommufd: Arc<OwnedFd>) -> Result<Arc<Self>> {
        let id = iommufd::ioas_alloc(iommufd.as_fd()).map_err(|errno| {
            Error::call(iommufd::IOAS_ALLOC.name, errno)
                .on(NODE)
                .with_remedy("is the descriptor an iommufd?")
        })?;
        Ok(Arc::new(Self {
            iommufd,
            id,
            owned: true,
            process: this_process(),
            iovas: Mutex::default(),
        }))
    }

    /// Uses an existing address space of an iommufd, by its ID. It is not
    /// destroyed at the end. The descriptor becomes close-on-exec.
    pub fn existing(iommufd: OwnedFd, id: u32) -> Result<Arc<Self>> {
        close_on_exec(&iommufd)?;
        Ok(Arc::new(Self {
            iommufd: Arc::new(iommufd),
            id,
            owned: false,
            process: this_process(),
            iovas: Mutex::default(),
        }))
    }

    /// Whether both are on the same iommufd, so that a device can move between them.
    pub(crate) fn is_sibling(&self, other: &Ioas) -> bool {
        Arc::ptr_eq(&self.iommufd, &other.iommufd)
    }

    /// The I/O addresses that can be mapped (`IOMMU_IOAS_IOVA_RANGES`), with the devices that are attached now.
    ///
    /// # Errors
    ///
    /// If the descriptor is not an iommufd.
    pub fn iova_ranges(&self) -> Result<Vec<IovaRange>> {
        let pairs = iommufd::ioas_iova_ranges(self.iommufd.as_fd(), self.id)
            .map_err(|errno| Error::call(iommufd::IOAS_IOVA_RANGES.name, errno).on(NODE))?;
        let range = |pair: &Pair| IovaRange {
            first: pair.first,
            last: pair.second,
        };
        Ok(pairs.iter().map(range).collect())
    }

    /// The used I/O addresses.
    pub(super) fn iovas(&self) -> &Mutex<Iovas> {
        &self.iovas
    }

    /// The address space's ID on its iommufd.
    pub fn id(&self) -> u32 {
        self.id
    }
}

fn close_on_exec(iommufd: &OwnedFd) -> Result<()> {
    process::close_on_exec(iommufd.as_fd()).map_err(|errno| Error::call("fcntl", errno).on(NODE))
}

/// The iommufd.
impl AsFd for Ioas {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.iommufd.as_fd()
    }
}

impl Drop for Ioas {
    fn drop(&mut self) {
        // The iommufd is also the parent's, which continues to use the address space.
        if self.owned && self.process == this_process() {
            // Every device that we attached holds this address space and is closed by now. If a
            // mapping keeps one open, or other code has attached one, the kernel returns EBUSY, and
            // rightly so: the address space then goes away with the iommufd.
            let _ = iommufd::destroy(self.iommufd.as_fd(), self.id);
        }
    }
}
