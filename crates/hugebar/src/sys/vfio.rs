//! The VFIO ioctls, one function each, named after the request.

#![allow(unsafe_code, reason = "one of the modules that may: system calls")]

use core::ffi::{CStr, c_int};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Result;
use rustix::ioctl::opcode;

use super::abi::{
    self, AttachPt, BindIommufd, DetachPt, DeviceInfo, DmaMap, DmaUnmap, GroupStatus, IommuInfo,
    RegionInfo, argsz,
};
use super::ioctl::{Number, Request, grown, ioctl, number, update};

/// `_IO(VFIO_TYPE, VFIO_BASE + n)`.
const fn vfio<A: ?Sized>(name: &'static str, n: u8) -> Request<A> {
    Request::new(name, opcode::none(b';', 100 + n))
}

// The invariants are those of linux/vfio.h.
pub(crate) const GET_API_VERSION: Request<Number> = vfio("VFIO_GET_API_VERSION", 0);
pub(crate) const CHECK_EXTENSION: Request<Number> = vfio("VFIO_CHECK_EXTENSION", 1);
pub(crate) const SET_IOMMU: Request<Number> = vfio("VFIO_SET_IOMMU", 2);
pub(crate) const GROUP_GET_STATUS: Request<GroupStatus> = vfio("VFIO_GROUP_GET_STATUS", 3);
pub(crate) const GROUP_SET_CONTAINER: Request<c_int> = vfio("VFIO_GROUP_SET_CONTAINER", 4);
pub(crate) const GROUP_GET_DEVICE_FD: Request<CStr> = vfio("VFIO_GROUP_GET_DEVICE_FD", 6);
pub(crate) const DEVICE_GET_INFO: Request<DeviceInfo> = vfio("VFIO_DEVICE_GET_INFO", 7);
pub(crate) const DEVICE_GET_REGION_INFO: Request<RegionInfo> =
    vfio("VFIO_DEVICE_GET_REGION_INFO", 8);
pub(crate) const IOMMU_GET_INFO: Request<IommuInfo> = vfio("VFIO_IOMMU_GET_INFO", 12);
pub(crate) const IOMMU_MAP_DMA: Request<DmaMap> = vfio("VFIO_IOMMU_MAP_DMA", 13);
pub(crate) const IOMMU_UNMAP_DMA: Request<DmaUnmap> = vfio("VFIO_IOMMU_UNMAP_DMA", 14);
pub(crate) const DEVICE_BIND_IOMMUFD: Request<BindIommufd> = vfio("VFIO_DEVICE_BIND_IOMMUFD", 18);
pub(crate) const DEVICE_ATTACH_IOMMUFD_PT: Request<AttachPt> =
    vfio("VFIO_DEVICE_ATTACH_IOMMUFD_PT", 19);
pub(crate) const DEVICE_DETACH_IOMMUFD_PT: Request<DetachPt> =
    vfio("VFIO_DEVICE_DETACH_IOMMUFD_PT", 20);

/// `VFIO_GET_API_VERSION` on a container.
pub(crate) fn get_api_version(container: BorrowedFd<'_>) -> Result<c_int> {
    number(container, GET_API_VERSION, 0)
}

/// `VFIO_CHECK_EXTENSION` on a container: whether it knows an IOMMU type.
pub(crate) fn check_extension(container: BorrowedFd<'_>, extension: u32) -> Result<bool> {
    Ok(number(container, CHECK_EXTENSION, extension)? > 0)
}

/// `VFIO_SET_IOMMU` on a container that has a group.
pub(crate) fn set_iommu(container: BorrowedFd<'_>, kind: u32) -> Result<()> {
    number(container, SET_IOMMU, kind).map(drop)
}

/// `VFIO_GROUP_GET_STATUS`: the group's flags.
pub(crate) fn group_get_status(group: BorrowedFd<'_>) -> Result<GroupStatus> {
    let mut status = GroupStatus {
        argsz: argsz::<GroupStatus>(),
        ..GroupStatus::default()
    };
    update(group, GROUP_GET_STATUS, &mut status)?;
    Ok(status)
}

/// `VFIO_GROUP_SET_CONTAINER`.
pub(crate) fn group_set_container(group: BorrowedFd<'_>, container: BorrowedFd<'_>) -> Result<()> {
    let mut raw: c_int = container.as_raw_fd();
    update(group, GROUP_SET_CONTAINER, &mut raw)
}

/// `VFIO_GROUP_GET_DEVICE_FD`: opens a device of the group by name. The fd is close-on-exec
/// (`drivers/vfio/group.c`, `vfio_group_ioctl_get_device_fd`).
pub(crate) fn group_get_device_fd(group: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let address = name.as_ptr().expose_provenance();
    // SAFETY: the argument is a NUL-terminated string, which the kernel only reads.
    let fd: RawFd = unsafe { ioctl(group, GROUP_GET_DEVICE_FD, address) }?;
    // SAFETY: the kernel has just made this descriptor for us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `VFIO_DEVICE_GET_INFO`.
pub(crate) fn device_get_info(device: BorrowedFd<'_>) -> Result<DeviceInfo> {
    let mut info = DeviceInfo {
        argsz: argsz::<DeviceInfo>(),
        ..DeviceInfo::default()
    };
    update(device, DEVICE_GET_INFO, &mut info)?;
    Ok(info)
}

/// `VFIO_DEVICE_GET_REGION_INFO`, asked twice where there are capabilities: the base fields of the
/// last answer, and that answer's bytes.
pub(crate) fn device_get_region_info(
    device: BorrowedFd<'_>,
    index: u32,
) -> Result<(RegionInfo, Vec<u8>)> {
    let ask = |argsz| RegionInfo {
        argsz,
        index,
        ..RegionInfo::default()
    };
    grown(device, DEVICE_GET_REGION_INFO, ask, |info| info.argsz)
}

/// `VFIO_IOMMU_GET_INFO` on a container, asked twice like [`device_get_region_info`].
pub(crate) fn iommu_get_info(container: BorrowedFd<'_>) -> Result<(IommuInfo, Vec<u8>)> {
    let ask = |argsz| IommuInfo {
        argsz,
        ..IommuInfo::default()
    };
    grown(container, IOMMU_GET_INFO, ask, |info| info.argsz)
}

/// `VFIO_IOMMU_MAP_DMA`: lets devices of the container reach `[vaddr, vaddr + size)` at `iova`.
/// `flags` are [`abi::DMA_READ`] and [`abi::DMA_WRITE`], as the device sees it.
///
/// # Safety
///
/// Until it is unmapped, a device can read and write that memory at any time:
/// * nothing there may be a Rust object, or be borrowed;
/// * it must stay mapped, and belong to the caller.
pub(crate) unsafe fn iommu_map_dma(
    container: BorrowedFd<'_>,
    flags: u32,
    vaddr: u64,
    iova: u64,
    size: u64,
) -> Result<()> {
    debug_assert_eq!(flags & !(abi::DMA_READ | abi::DMA_WRITE), 0);
    let mut map = DmaMap {
        argsz: argsz::<DmaMap>(),
        flags,
        vaddr,
        iova,
        size,
    };
    update(container, IOMMU_MAP_DMA, &mut map)
}

/// `VFIO_IOMMU_UNMAP_DMA`: how many bytes of `[iova, iova + size)` were unmapped.
pub(crate) fn iommu_unmap_dma(container: BorrowedFd<'_>, iova: u64, size: u64) -> Result<u64> {
    let mut unmap = DmaUnmap {
        argsz: argsz::<DmaUnmap>(),
        flags: 0,
        iova,
        size,
    };
    update(container, IOMMU_UNMAP_DMA, &mut unmap)?;
    Ok(unmap.size)
}

/// `VFIO_DEVICE_BIND_IOMMUFD`: gives a device opened by its own node to an iommufd, which is what
/// makes it usable. Closing the device takes it back.
pub(crate) fn device_bind_iommufd(device: BorrowedFd<'_>, iommufd: BorrowedFd<'_>) -> Result<()> {
    let mut bind = BindIommufd {
        argsz: argsz::<BindIommufd>(),
        flags: 0,
        iommufd: iommufd.as_raw_fd(),
        out_devid: 0,
    };
    update(device, DEVICE_BIND_IOMMUFD, &mut bind)
}

/// `VFIO_DEVICE_ATTACH_IOMMUFD_PT`: puts a bound device into an address space of its iommufd, in place
/// of the one that it was in.
pub(crate) fn device_attach_iommufd_pt(device: BorrowedFd<'_>, ioas: u32) -> Result<()> {
    let mut attach = AttachPt {
        argsz: argsz::<AttachPt>(),
        flags: 0,
        pt_id: ioas,
    };
    update(device, DEVICE_ATTACH_IOMMUFD_PT, &mut attach)
}

/// `VFIO_DEVICE_DETACH_IOMMUFD_PT`: takes a device out of its address space; its DMA is blocked then.
pub(crate) fn device_detach_iommufd_pt(device: BorrowedFd<'_>) -> Result<()> {
    let mut detach = DetachPt {
        argsz: argsz::<DetachPt>(),
        flags: 0,
    };
    update(device, DEVICE_DETACH_IOMMUFD_PT, &mut detach)
}
