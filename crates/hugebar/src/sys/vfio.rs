//! The VFIO ioctls, one function each, named after the request.

#![allow(unsafe_code, reason = "one of the modules that may: system calls")]

use core::ffi::{CStr, c_int};
use core::ptr::NonNull;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::OFlags;
use rustix::io::{Errno, Result};
use rustix::ioctl::{Opcode, opcode};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::abi::{
    self, AttachPt, BindIommufd, DependentDevice, DetachPt, DeviceFeature, DeviceInfo, DmaMap,
    DmaUnmap, FeatureDmaBuf, GroupStatus, HotReset, IommuInfo, IrqInfo, IrqSet, RegionInfo, argsz,
};
use super::ioctl::{
    MOST_TRIES, Number, Request, ioctl, number, requests, update, with_capabilities,
};

/// `_IO(VFIO_TYPE, VFIO_BASE + n)`.
const fn vfio(n: u8) -> Opcode {
    opcode::none(b';', 100 + n)
}

// linux/vfio.h
requests! {
    GET_API_VERSION: Number = "VFIO_GET_API_VERSION", vfio(0);
    CHECK_EXTENSION: Number = "VFIO_CHECK_EXTENSION", vfio(1);
    SET_IOMMU: Number = "VFIO_SET_IOMMU", vfio(2);
    GROUP_GET_STATUS: GroupStatus = "VFIO_GROUP_GET_STATUS", vfio(3);
    GROUP_SET_CONTAINER: c_int = "VFIO_GROUP_SET_CONTAINER", vfio(4);
    GROUP_GET_DEVICE_FD: CStr = "VFIO_GROUP_GET_DEVICE_FD", vfio(6);
    DEVICE_GET_INFO: DeviceInfo = "VFIO_DEVICE_GET_INFO", vfio(7);
    DEVICE_GET_REGION_INFO: RegionInfo = "VFIO_DEVICE_GET_REGION_INFO", vfio(8);
    DEVICE_GET_IRQ_INFO: IrqInfo = "VFIO_DEVICE_GET_IRQ_INFO", vfio(9);
    DEVICE_SET_IRQS: IrqSet = "VFIO_DEVICE_SET_IRQS", vfio(10);
    DEVICE_RESET: Number = "VFIO_DEVICE_RESET", vfio(11);
    DEVICE_GET_PCI_HOT_RESET_INFO: HotReset = "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", vfio(12);
    DEVICE_PCI_HOT_RESET: HotReset = "VFIO_DEVICE_PCI_HOT_RESET", vfio(13);
    IOMMU_GET_INFO: IommuInfo = "VFIO_IOMMU_GET_INFO", vfio(12);
    IOMMU_MAP_DMA: DmaMap = "VFIO_IOMMU_MAP_DMA", vfio(13);
    IOMMU_UNMAP_DMA: DmaUnmap = "VFIO_IOMMU_UNMAP_DMA", vfio(14);
    DEVICE_FEATURE: DeviceFeature = "VFIO_DEVICE_FEATURE", vfio(17);
    DEVICE_FEATURE_DMA_BUF: FeatureDmaBuf = "VFIO_DEVICE_FEATURE_DMA_BUF", vfio(17);
    DEVICE_BIND_IOMMUFD: BindIommufd = "VFIO_DEVICE_BIND_IOMMUFD", vfio(18);
    DEVICE_ATTACH_IOMMUFD_PT: AttachPt = "VFIO_DEVICE_ATTACH_IOMMUFD_PT", vfio(19);
    DEVICE_DETACH_IOMMUFD_PT: DetachPt = "VFIO_DEVICE_DETACH_IOMMUFD_PT", vfio(20);
}

/// `VFIO_GET_API_VERSION` on a container.
pub(crate) fn get_api_version(container: BorrowedFd<'_>) -> Result<c_int> {
    number(container, GET_API_VERSION, 0)
}

/// `VFIO_CHECK_EXTENSION` on a container: whether it supports an IOMMU type.
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
    with_capabilities(device, DEVICE_GET_REGION_INFO, ask, |info| info.argsz)
}

/// `VFIO_DEVICE_GET_IRQ_INFO`.
pub(crate) fn device_get_irq_info(device: BorrowedFd<'_>, index: u32) -> Result<IrqInfo> {
    let mut info = IrqInfo {
        argsz: argsz::<IrqInfo>(),
        index,
        ..IrqInfo::default()
    };
    update(device, DEVICE_GET_IRQ_INFO, &mut info)?;
    Ok(info)
}

/// What `VFIO_DEVICE_SET_IRQS` is given for each interrupt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IrqData<'a> {
    /// Nothing: all of so many.
    All(u32),
    /// Whether it is meant.
    Bools(&'a [bool]),
    /// An eventfd, or none (-1). The kernel takes references of its own.
    Eventfds(&'a [Option<BorrowedFd<'a>>]),
}

/// `VFIO_DEVICE_SET_IRQS`: does `action` to interrupts of an index from `start` on. 0, or how many vectors there are
/// where that is fewer than were asked for, and nothing was done.
pub(crate) fn device_set_irqs(
    device: BorrowedFd<'_>,
    action: u32,
    index: u32,
    start: u32,
    data: IrqData<'_>,
) -> Result<c_int> {
    let (kind, count, data): (u32, usize, Vec<u8>) = match data {
        IrqData::All(count) => (abi::IRQ_DATA_NONE, count as usize, Vec::new()),
        IrqData::Bools(bools) => {
            let bytes = bools.iter().copied().map(u8::from).collect();
            (abi::IRQ_DATA_BOOL, bools.len(), bytes)
        }
        IrqData::Eventfds(fds) => {
            let number = |fd: &Option<BorrowedFd<'_>>| fd.map_or(-1, |fd| fd.as_raw_fd());
            let bytes = fds.iter().flat_map(|fd| number(fd).to_ne_bytes());
            (abi::IRQ_DATA_EVENTFD, fds.len(), bytes.collect())
        }
    };
    let set = IrqSet {
        argsz: argsz_with::<IrqSet>(data.len())?,
        flags: action | kind,
        index,
        start,
        count: u32::try_from(count).map_err(|_| Errno::INVAL)?,
    };
    let mut argument = followed(&set, &data);
    let address = argument.as_mut_ptr().expose_provenance();
    // SAFETY: the buffer starts with the struct that the request takes, and has the bytes that its `argsz` promises
    // the kernel, which only reads them.
    unsafe { ioctl(device, DEVICE_SET_IRQS, address) }
}

/// The `argsz` of a struct with so many bytes behind it.
fn argsz_with<A>(more: usize) -> Result<u32> {
    let size = size_of::<A>().checked_add(more);
    let size = size.and_then(|size| u32::try_from(size).ok());
    size.ok_or(Errno::INVAL)
}

/// A struct of the kernel's and what follows it, in words, for the alignment that it needs.
fn followed<A: IntoBytes + Immutable>(head: &A, data: &[u8]) -> Vec<u32> {
    let size = size_of::<A>() + data.len();
    let mut argument = vec![0_u32; size.div_ceil(4)];
    let bytes = argument.as_mut_slice().as_mut_bytes();
    bytes[..size_of::<A>()].copy_from_slice(head.as_bytes());
    bytes[size_of::<A>()..size].copy_from_slice(data);
    argument
}

/// `VFIO_DEVICE_RESET`: resets the function.
pub(crate) fn device_reset(device: BorrowedFd<'_>) -> Result<()> {
    number(device, DEVICE_RESET, 0).map(drop)
}

/// `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`: which devices are reset together with this one, and flags that say what their
/// ids are of. Asked again with more room until all fit; a bounded number of times.
pub(crate) fn device_get_pci_hot_reset_info(
    device: BorrowedFd<'_>,
) -> Result<(u32, Vec<DependentDevice>)> {
    let mut room = 8;
    for _ in 0..MOST_TRIES {
        let data = vec![0; room * size_of::<DependentDevice>()];
        let head = HotReset {
            argsz: argsz_with::<HotReset>(data.len())?,
            ..HotReset::default()
        };
        let mut argument = followed(&head, &data);
        let address = argument.as_mut_ptr().expose_provenance();
        // SAFETY: the buffer starts with the struct that the request takes, and has the bytes that its `argsz`
        // promises the kernel.
        let answer = unsafe { ioctl(device, DEVICE_GET_PCI_HOT_RESET_INFO, address) };
        let bytes = argument.as_slice().as_bytes();
        let (head, list) = HotReset::read_from_prefix(bytes).map_err(|_| Errno::OVERFLOW)?;
        let count = head.count as usize;
        match answer {
            Ok(_) => {
                let all = <[DependentDevice]>::ref_from_prefix_with_elems(list, count);
                let (all, _) = all.map_err(|_| Errno::OVERFLOW)?;
                return Ok((head.flags, all.to_vec()));
            }
            // All functions of a domain are no more than that.
            Err(Errno::NOSPC) if (room..=1 << 16).contains(&count) => room = count,
            // Devices came or went meanwhile.
            Err(Errno::AGAIN) => (),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::AGAIN)
}

/// `VFIO_DEVICE_PCI_HOT_RESET`: resets the slot or bus that the device is on. `groups` are the groups of all devices
/// there; none for a device that was opened by its own node.
pub(crate) fn device_pci_hot_reset(
    device: BorrowedFd<'_>,
    groups: &[BorrowedFd<'_>],
) -> Result<()> {
    let fds = groups.iter().flat_map(|fd| fd.as_raw_fd().to_ne_bytes());
    let data: Vec<u8> = fds.collect();
    let head = HotReset {
        argsz: argsz_with::<HotReset>(data.len())?,
        flags: 0,
        count: u32::try_from(groups.len()).map_err(|_| Errno::INVAL)?,
    };
    let mut argument = followed(&head, &data);
    let address = argument.as_mut_ptr().expose_provenance();
    // SAFETY: the buffer starts with the struct that the request takes, and has the bytes that its `argsz` promises
    // the kernel, which only reads them.
    unsafe { ioctl(device, DEVICE_PCI_HOT_RESET, address) }.map(drop)
}

/// `VFIO_DEVICE_FEATURE` with `VFIO_DEVICE_FEATURE_SET`.
pub(crate) fn device_feature_set(device: BorrowedFd<'_>, feature: u32, data: &[u8]) -> Result<()> {
    device_feature(device, feature | abi::FEATURE_SET, data)
}

/// `VFIO_DEVICE_FEATURE` with `VFIO_DEVICE_FEATURE_PROBE`: an error where the feature is not there to be set.
pub(crate) fn device_feature_can_be_set(device: BorrowedFd<'_>, feature: u32) -> Result<()> {
    device_feature(device, feature | abi::FEATURE_SET | abi::FEATURE_PROBE, &[])
}

fn device_feature(device: BorrowedFd<'_>, flags: u32, data: &[u8]) -> Result<()> {
    let head = DeviceFeature {
        argsz: argsz_with::<DeviceFeature>(data.len())?,
        flags,
    };
    let mut argument = followed(&head, data);
    let address = argument.as_mut_ptr().expose_provenance();
    // SAFETY: the buffer starts with the struct that the request takes, and has the bytes that its `argsz` promises
    // the kernel, which writes none for these flags.
    unsafe { ioctl(device, DEVICE_FEATURE, address) }.map(drop)
}

/// `VFIO_IOMMU_GET_INFO` on a container, asked twice like [`device_get_region_info`].
pub(crate) fn iommu_get_info(container: BorrowedFd<'_>) -> Result<(IommuInfo, Vec<u8>)> {
    let ask = |argsz| IommuInfo {
        argsz,
        ..IommuInfo::default()
    };
    with_capabilities(container, IOMMU_GET_INFO, ask, |info| info.argsz)
}

/// `VFIO_IOMMU_MAP_DMA`: lets devices of the container reach `[address, address + size)` at `iova`.
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
    address: NonNull<u8>,
    iova: u64,
    size: u64,
) -> Result<()> {
    debug_assert_eq!(flags & !(abi::DMA_READ | abi::DMA_WRITE), 0);
    let mut map = DmaMap {
        argsz: argsz::<DmaMap>(),
        flags,
        vaddr: address.as_ptr().expose_provenance() as u64,
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

/// `VFIO_DEVICE_FEATURE` with `VFIO_DEVICE_FEATURE_DMA_BUF`: a part of a BAR as a dma-buf, close-on-exec (Linux 6.19,
/// `drivers/vfio/pci/vfio_pci_dmabuf.c`).
pub(crate) fn device_feature_dma_buf(
    device: BorrowedFd<'_>,
    region: u32,
    offset: u64,
    length: u64,
) -> Result<OwnedFd> {
    let mut export = FeatureDmaBuf {
        argsz: argsz::<FeatureDmaBuf>(),
        feature: abi::FEATURE_GET | abi::FEATURE_DMA_BUF,
        region_index: region,
        open_flags: (OFlags::RDWR | OFlags::CLOEXEC).bits(),
        flags: 0,
        nr_ranges: 1,
        offset,
        length,
    };
    let address = core::ptr::from_mut(&mut export).expose_provenance();
    // SAFETY: the request takes a struct that says its size, which is borrowed exclusively; any bytes are one.
    let fd: RawFd = unsafe { ioctl(device, DEVICE_FEATURE_DMA_BUF, address) }?;
    // SAFETY: the kernel has just made this descriptor for us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `VFIO_DEVICE_BIND_IOMMUFD`: binds a device opened by its own node to an iommufd, which
/// makes it usable. Closing the device unbinds it.
pub(crate) fn device_bind_iommufd(device: BorrowedFd<'_>, iommufd: BorrowedFd<'_>) -> Result<()> {
    let mut bind = BindIommufd {
        argsz: argsz::<BindIommufd>(),
        flags: 0,
        iommufd: iommufd.as_raw_fd(),
        out_devid: 0,
    };
    update(device, DEVICE_BIND_IOMMUFD, &mut bind)
}

/// `VFIO_DEVICE_ATTACH_IOMMUFD_PT`: attaches a bound device to an address space of its iommufd, instead
/// of its previous one.
pub(crate) fn device_attach_iommufd_pt(device: BorrowedFd<'_>, ioas: u32) -> Result<()> {
    let mut attach = AttachPt {
        argsz: argsz::<AttachPt>(),
        flags: 0,
        pt_id: ioas,
    };
    update(device, DEVICE_ATTACH_IOMMUFD_PT, &mut attach)
}

/// `VFIO_DEVICE_DETACH_IOMMUFD_PT`: detaches a device from its address space; its DMA is then blocked.
pub(crate) fn device_detach_iommufd_pt(device: BorrowedFd<'_>) -> Result<()> {
    let mut detach = DetachPt {
        argsz: argsz::<DetachPt>(),
        flags: 0,
    };
    update(device, DEVICE_DETACH_IOMMUFD_PT, &mut detach)
}
