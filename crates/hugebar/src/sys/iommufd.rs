//! The iommufd ioctls (`linux/iommufd.h`), one function each, named after the request.

#![allow(unsafe_code, reason = "one of the modules that may: system calls")]

use std::os::fd::BorrowedFd;

use rustix::io::Result;
use rustix::ioctl::{Opcode, opcode};

use super::abi::{IoasAlloc, IommuDestroy, VfioIoas, argsz};
use super::ioctl::{Request, requests, update};

/// `_IO(IOMMUFD_TYPE, n)`.
const fn iommu(n: u8) -> Opcode {
    opcode::none(b';', n)
}

// linux/iommufd.h
requests! {
    DESTROY: IommuDestroy = "IOMMU_DESTROY", iommu(0x80);
    IOAS_ALLOC: IoasAlloc = "IOMMU_IOAS_ALLOC", iommu(0x81);
    VFIO_IOAS: VfioIoas = "IOMMU_VFIO_IOAS", iommu(0x88);
}

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
