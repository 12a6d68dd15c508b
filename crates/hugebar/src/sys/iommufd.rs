//! The iommufd ioctls (`linux/iommufd.h`), one function each, named after the request.

use std::os::fd::BorrowedFd;

use rustix::io::Result;
use rustix::ioctl::opcode;

use super::abi::{IoasAlloc, IommuDestroy, VfioIoas, argsz};
use super::ioctl::{Request, update};

/// `_IO(IOMMUFD_TYPE, n)`.
const fn iommu<A: ?Sized>(name: &'static str, n: u8) -> Request<A> {
    Request::new(name, opcode::none(b';', n))
}

// The invariants are those of linux/iommufd.h.
pub(crate) const DESTROY: Request<IommuDestroy> = iommu("IOMMU_DESTROY", 0x80);
pub(crate) const IOAS_ALLOC: Request<IoasAlloc> = iommu("IOMMU_IOAS_ALLOC", 0x81);
pub(crate) const VFIO_IOAS: Request<VfioIoas> = iommu("IOMMU_VFIO_IOAS", 0x88);

/// `IOMMU_IOAS_ALLOC`: makes an address space, and tells its number.
pub(crate) fn ioas_alloc(iommufd: BorrowedFd<'_>) -> Result<u32> {
    let mut alloc = IoasAlloc {
        size: argsz::<IoasAlloc>(),
        ..IoasAlloc::default()
    };
    update(iommufd, IOAS_ALLOC, &mut alloc)?;
    Ok(alloc.out_ioas_id)
}

/// `IOMMU_DESTROY`: ends an object that nobody uses any more.
pub(crate) fn destroy(iommufd: BorrowedFd<'_>, id: u32) -> Result<()> {
    let size = argsz::<IommuDestroy>();
    update(iommufd, DESTROY, &mut IommuDestroy { size, id })
}

/// `IOMMU_VFIO_IOAS` with `IOMMU_VFIO_IOAS_GET`: the address space that VFIO's container ioctls work on.
/// Only an iommufd knows the request.
pub(crate) fn vfio_ioas(iommufd: BorrowedFd<'_>) -> Result<u32> {
    let mut get = VfioIoas {
        size: argsz::<VfioIoas>(),
        ..VfioIoas::default()
    };
    update(iommufd, VFIO_IOAS, &mut get)?;
    Ok(get.ioas_id)
}
