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

/// An I/O address space of an iommufd, which devices are attached to.
///
/// iommufd maps memory into it, but no device memory: a BAR cannot be populated by it.
#[derive(Debug)]
pub struct Ioas {
    iommufd: Arc<OwnedFd>,
    id: u32,
    /// Whether the address space is ours to destroy, and not somebody else's on the same iommufd.
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

    /// Makes an address space on an iommufd that somebody else has opened. The descriptor becomes
    /// close-on-exec.
    ///
    /// # Errors
    ///
    /// When the file is no iommufd.
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

    /// Uses an address space that somebody else has made on an iommufd, by its number. It is not
    /// destroyed in the end. The descriptor becomes close-on-exec.
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
    /// When the descriptor is no iommufd.
    pub fn iova_ranges(&self) -> Result<Vec<IovaRange>> {
        let pairs = iommufd::ioas_iova_ranges(self.iommufd.as_fd(), self.id)
            .map_err(|errno| Error::call(iommufd::IOAS_IOVA_RANGES.name, errno).on(NODE))?;
        let range = |pair: &Pair| IovaRange {
            first: pair.first,
            last: pair.second,
        };
        Ok(pairs.iter().map(range).collect())
    }

    /// Which I/O addresses are taken.
    pub(super) fn iovas(&self) -> &Mutex<Iovas> {
        &self.iovas
    }

    /// The address space's number on its iommufd.
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
        // The iommufd is a parent's as well, who goes on with the address space.
        if self.owned && self.process == this_process() {
            // Every device that we attached holds this address space and is closed by now. Should a
            // mapping keep one open, or somebody else have attached one, the kernel says EBUSY, and is
            // right: the address space then goes with the iommufd.
            let _ = iommufd::destroy(self.iommufd.as_fd(), self.id);
        }
    }
}
