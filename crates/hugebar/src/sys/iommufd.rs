//! The iommufd ioctls (`linux/iommufd.h`), one function each, named after the request.

#![allow(unsafe_code, reason = "one of the modules that may: system calls")]

use core::ptr::NonNull;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};
use rustix::ioctl::{Opcode, opcode};

use super::abi::{
    self, IoasAlloc, IoasIovaRanges, IoasMap, IoasMapFile, IoasUnmap, IommuDestroy, Pair, VfioIoas,
    argsz,
};
use super::ioctl::{Request, requests, update};

/// `_IO(IOMMUFD_TYPE, n)`.
const fn iommu(n: u8) -> Opcode {
    opcode::none(b';', n)
}

// linux/iommufd.h
requests! {
    DESTROY: IommuDestroy = "IOMMU_DESTROY", iommu(0x80);
    IOAS_ALLOC: IoasAlloc = "IOMMU_IOAS_ALLOC", iommu(0x81);
    IOAS_IOVA_RANGES: IoasIovaRanges = "IOMMU_IOAS_IOVA_RANGES", iommu(0x84);
    IOAS_MAP: IoasMap = "IOMMU_IOAS_MAP", iommu(0x85);
    IOAS_UNMAP: IoasUnmap = "IOMMU_IOAS_UNMAP", iommu(0x86);
    IOAS_MAP_FILE: IoasMapFile = "IOMMU_IOAS_MAP_FILE", iommu(0x8f);
    VFIO_IOAS: VfioIoas = "IOMMU_VFIO_IOAS", iommu(0x88);
}

/// `IOMMU_IOAS_ALLOC`: makes an address space, and returns its ID.
pub(crate) fn ioas_alloc(iommufd: BorrowedFd<'_>) -> Result<u32> {
    let mut alloc = IoasAlloc {
        size: argsz::<IoasAlloc>(),
        ..IoasAlloc::default()
    };
    update(iommufd, IOAS_ALLOC, &mut alloc)?;
    Ok(alloc.out_ioas_id)
}

/// `IOMMU_DESTROY`: destroys an unused object.
pub(crate) fn destroy(iommufd: BorrowedFd<'_>, id: u32) -> Result<()> {
    let size = argsz::<IommuDestroy>();
    update(iommufd, DESTROY, &mut IommuDestroy { size, id })
}

/// The most ranges that are accepted: no IOMMU has more.
const MOST_RANGES: u32 = 4096;

/// `IOMMU_IOAS_IOVA_RANGES`: first and last of the I/O addresses that can be mapped now.
pub(crate) fn ioas_iova_ranges(iommufd: BorrowedFd<'_>, id: u32) -> Result<Vec<Pair>> {
    let mut room: u32 = 16;
    // The list may grow or shrink between two calls, when devices come and go.
    for _ in 0..8 {
        let nothing = Pair {
            first: 0,
            second: 0,
        };
        let mut list = vec![nothing; room as usize];
        let mut ranges = IoasIovaRanges {
            size: argsz::<IoasIovaRanges>(),
            ioas_id: id,
            num_iovas: room,
            allowed_iovas: list.as_mut_ptr().expose_provenance() as u64,
            ..IoasIovaRanges::default()
        };
        // The kernel writes no more than `num_iovas` of them (`iommufd_ioas_iova_ranges`).
        match update(iommufd, IOAS_IOVA_RANGES, &mut ranges) {
            Ok(()) => {
                list.truncate(ranges.num_iovas as usize);
                return Ok(list);
            }
            Err(Errno::MSGSIZE) if ranges.num_iovas <= MOST_RANGES => {
                room = ranges.num_iovas.max(room);
            }
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::MSGSIZE)
}

/// `IOMMU_IOAS_MAP` at `iova`: lets devices of the address space reach `[address, address + length)` there. `flags`
/// are [`abi::IOAS_MAP_READABLE`] and [`abi::IOAS_MAP_WRITEABLE`], as the device sees it.
///
/// # Safety
///
/// As for [`super::vfio::iommu_map_dma`].
pub(crate) unsafe fn ioas_map(
    iommufd: BorrowedFd<'_>,
    id: u32,
    flags: u32,
    address: NonNull<u8>,
    iova: u64,
    length: u64,
) -> Result<()> {
    let mut map = IoasMap {
        size: argsz::<IoasMap>(),
        flags: flags | abi::IOAS_MAP_FIXED_IOVA,
        ioas_id: id,
        reserved: 0,
        user_va: address.as_ptr().expose_provenance() as u64,
        length,
        iova,
    };
    update(iommufd, IOAS_MAP, &mut map)
}

/// `IOMMU_IOAS_MAP_FILE` at `iova`: lets devices of the address space reach `length` bytes of a file from its start.
/// `flags` as for [`ioas_map`].
///
/// # Safety
///
/// As for [`super::vfio::iommu_map_dma`], for what is in the file: a dma-buf of device memory holds no Rust object.
pub(crate) unsafe fn ioas_map_file(
    iommufd: BorrowedFd<'_>,
    id: u32,
    flags: u32,
    file: BorrowedFd<'_>,
    iova: u64,
    length: u64,
) -> Result<()> {
    let mut map = IoasMapFile {
        size: argsz::<IoasMapFile>(),
        flags: flags | abi::IOAS_MAP_FIXED_IOVA,
        ioas_id: id,
        fd: file.as_raw_fd(),
        start: 0,
        length,
        iova,
    };
    update(iommufd, IOAS_MAP_FILE, &mut map)
}

/// `IOMMU_IOAS_UNMAP`: how many bytes of `[iova, iova + length)` were unmapped.
pub(crate) fn ioas_unmap(iommufd: BorrowedFd<'_>, id: u32, iova: u64, length: u64) -> Result<u64> {
    let mut unmap = IoasUnmap {
        size: argsz::<IoasUnmap>(),
        ioas_id: id,
        iova,
        length,
    };
    update(iommufd, IOAS_UNMAP, &mut unmap)?;
    Ok(unmap.length)
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
