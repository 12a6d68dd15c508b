//! Kernel structs and constants of `linux/vfio.h` and `linux/iommufd.h`, checked in tests against
//! `vfio-bindings` and the C headers.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `VFIO_API_VERSION`.
pub(crate) const API_VERSION: i32 = 0;
/// `VFIO_TYPE1v2_IOMMU`.
pub(crate) const TYPE1V2_IOMMU: u32 = 3;
/// `VFIO_NOIOMMU_IOMMU`.
pub(crate) const NOIOMMU_IOMMU: u32 = 8;
/// `VFIO_GROUP_FLAGS_VIABLE`.
pub(crate) const GROUP_VIABLE: u32 = 1 << 0;
/// `VFIO_DEVICE_FLAGS_RESET`.
pub(crate) const DEVICE_RESET: u32 = 1 << 0;
/// `VFIO_DEVICE_FLAGS_PCI`.
pub(crate) const DEVICE_PCI: u32 = 1 << 1;
/// `VFIO_REGION_INFO_FLAG_CAPS`.
pub(crate) const REGION_CAPS: u32 = 1 << 3;
/// `VFIO_IOMMU_INFO_CAPS`.
pub(crate) const IOMMU_CAPS: u32 = 1 << 1;
/// `VFIO_REGION_INFO_CAP_SPARSE_MMAP`.
pub(crate) const CAP_SPARSE_MMAP: u16 = 1;
/// `VFIO_REGION_INFO_CAP_TYPE`.
pub(crate) const CAP_TYPE: u16 = 2;
/// `VFIO_REGION_INFO_CAP_MSIX_MAPPABLE`.
pub(crate) const CAP_MSIX_MAPPABLE: u16 = 3;
/// `VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE`.
pub(crate) const CAP_IOVA_RANGE: u16 = 1;
/// `VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL`.
pub(crate) const CAP_DMA_AVAIL: u16 = 3;
/// `VFIO_DMA_MAP_FLAG_READ`.
pub(crate) const DMA_READ: u32 = 1 << 0;
/// `VFIO_DMA_MAP_FLAG_WRITE`.
pub(crate) const DMA_WRITE: u32 = 1 << 1;
/// `VFIO_IRQ_SET_DATA_NONE`.
pub(crate) const IRQ_DATA_NONE: u32 = 1 << 0;
/// `VFIO_IRQ_SET_DATA_BOOL`.
pub(crate) const IRQ_DATA_BOOL: u32 = 1 << 1;
/// `VFIO_IRQ_SET_DATA_EVENTFD`.
pub(crate) const IRQ_DATA_EVENTFD: u32 = 1 << 2;
/// `VFIO_IRQ_SET_ACTION_MASK`.
pub(crate) const IRQ_MASK: u32 = 1 << 3;
/// `VFIO_IRQ_SET_ACTION_UNMASK`.
pub(crate) const IRQ_UNMASK: u32 = 1 << 4;
/// `VFIO_IRQ_SET_ACTION_TRIGGER`.
pub(crate) const IRQ_TRIGGER: u32 = 1 << 5;
/// `VFIO_PCI_HOT_RESET_FLAG_DEV_ID`: [`DependentDevice::id`] is a device's, not a group's (Linux 6.6).
pub(crate) const HOT_RESET_DEV_ID: u32 = 1 << 0;
/// `VFIO_PCI_DEVID_OWNED`: it has no id, but belongs to whoever asks.
pub(crate) const DEVID_OWNED: u32 = 0;
/// `VFIO_PCI_DEVID_NOT_OWNED`.
pub(crate) const DEVID_NOT_OWNED: u32 = u32::MAX;
/// `VFIO_DEVICE_FEATURE_SET`.
pub(crate) const FEATURE_SET: u32 = 1 << 17;
/// `VFIO_DEVICE_FEATURE_PROBE`.
pub(crate) const FEATURE_PROBE: u32 = 1 << 18;
/// `VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY`.
pub(crate) const FEATURE_LOW_POWER_ENTRY: u32 = 3;
/// `VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP`.
pub(crate) const FEATURE_LOW_POWER_WAKEUP: u32 = 4;
/// `VFIO_DEVICE_FEATURE_LOW_POWER_EXIT`.
pub(crate) const FEATURE_LOW_POWER_EXIT: u32 = 5;
/// `VFIO_PCI_CONFIG_REGION_INDEX`.
pub(crate) const PCI_CONFIG_REGION: u32 = 7;
/// BARs of a PCI function: regions 0 to 5 (`VFIO_PCI_BAR0_REGION_INDEX` and on).
pub(crate) const PCI_BARS: u32 = 6;

/// `struct vfio_group_status`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct GroupStatus {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
}

/// `struct vfio_device_info` without its capabilities.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct DeviceInfo {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) num_regions: u32,
    pub(crate) num_irqs: u32,
    pub(crate) cap_offset: u32,
    pub(crate) pad: u32,
}

/// `struct vfio_region_info` without its capabilities.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct RegionInfo {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) index: u32,
    pub(crate) cap_offset: u32,
    pub(crate) size: u64,
    pub(crate) offset: u64,
}

/// `struct vfio_info_cap_header`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct CapHeader {
    pub(crate) id: u16,
    pub(crate) version: u16,
    pub(crate) next: u32,
}

/// The fields of `struct vfio_region_info_cap_sparse_mmap` between its header and its areas.
/// `struct vfio_iommu_type1_info_cap_iova_range` has the same.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct ListHead {
    pub(crate) count: u32,
    pub(crate) reserved: u32,
}

/// `struct vfio_region_sparse_mmap_area` (offset and size) and `struct vfio_iova_range` (start and
/// last address).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct Pair {
    pub(crate) first: u64,
    pub(crate) second: u64,
}

/// The fields of `struct vfio_region_info_cap_type` after its header.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct RegionType {
    pub(crate) kind: u32,
    pub(crate) subtype: u32,
}

/// `struct vfio_irq_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct IrqInfo {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) index: u32,
    pub(crate) count: u32,
}

/// `struct vfio_irq_set` without its data.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct IrqSet {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) index: u32,
    pub(crate) start: u32,
    pub(crate) count: u32,
}

/// `struct vfio_pci_hot_reset_info` without its devices, and `struct vfio_pci_hot_reset` without its groups.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct HotReset {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) count: u32,
}

/// `struct vfio_pci_dependent_device`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct DependentDevice {
    pub(crate) id: u32,
    pub(crate) segment: u16,
    pub(crate) bus: u8,
    pub(crate) devfn: u8,
}

/// `struct vfio_device_feature` without its data.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct DeviceFeature {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
}

/// `struct vfio_device_low_power_entry_with_wakeup`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct LowPowerWakeup {
    pub(crate) wakeup_eventfd: i32,
    pub(crate) reserved: u32,
}

/// `struct vfio_iommu_type1_info` without its capabilities.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct IommuInfo {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) iova_pgsizes: u64,
    pub(crate) cap_offset: u32,
    pub(crate) pad: u32,
}

/// `struct vfio_iommu_type1_dma_map`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct DmaMap {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) vaddr: u64,
    pub(crate) iova: u64,
    pub(crate) size: u64,
}

/// `struct vfio_iommu_type1_dma_unmap` without its bitmap.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct DmaUnmap {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) iova: u64,
    pub(crate) size: u64,
}

/// `struct vfio_device_bind_iommufd`, without the token of virtual functions that it ends with since
/// Linux 6.18.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct BindIommufd {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) iommufd: i32,
    pub(crate) out_devid: u32,
}

/// `struct vfio_device_attach_iommufd_pt` without the PASID that it ends with since Linux 6.15.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct AttachPt {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) pt_id: u32,
}

/// `struct vfio_device_detach_iommufd_pt` without the PASID that it ends with since Linux 6.15.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct DetachPt {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
}

/// `struct iommu_destroy`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct IommuDestroy {
    pub(crate) size: u32,
    pub(crate) id: u32,
}

/// `struct iommu_ioas_alloc`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct IoasAlloc {
    pub(crate) size: u32,
    pub(crate) flags: u32,
    pub(crate) out_ioas_id: u32,
}

/// `struct iommu_vfio_ioas`; operation 0 is `IOMMU_VFIO_IOAS_GET`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct VfioIoas {
    pub(crate) size: u32,
    pub(crate) ioas_id: u32,
    pub(crate) op: u16,
    pub(crate) reserved: u16,
}

/// `IOMMU_IOAS_MAP_FIXED_IOVA`.
pub(crate) const IOAS_MAP_FIXED_IOVA: u32 = 1 << 0;
/// `IOMMU_IOAS_MAP_WRITEABLE`.
pub(crate) const IOAS_MAP_WRITEABLE: u32 = 1 << 1;
/// `IOMMU_IOAS_MAP_READABLE`.
pub(crate) const IOAS_MAP_READABLE: u32 = 1 << 2;

/// `struct iommu_ioas_iova_ranges`. Its list is of [`Pair`]s: first and last address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct IoasIovaRanges {
    pub(crate) size: u32,
    pub(crate) ioas_id: u32,
    pub(crate) num_iovas: u32,
    pub(crate) reserved: u32,
    pub(crate) allowed_iovas: u64,
    pub(crate) out_iova_alignment: u64,
}

/// `struct iommu_ioas_map`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct IoasMap {
    pub(crate) size: u32,
    pub(crate) flags: u32,
    pub(crate) ioas_id: u32,
    pub(crate) reserved: u32,
    pub(crate) user_va: u64,
    pub(crate) length: u64,
    pub(crate) iova: u64,
}

/// `struct iommu_ioas_unmap`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct IoasUnmap {
    pub(crate) size: u32,
    pub(crate) ioas_id: u32,
    pub(crate) iova: u64,
    pub(crate) length: u64,
}

/// `struct iommu_ioas_map_file`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct IoasMapFile {
    pub(crate) size: u32,
    pub(crate) flags: u32,
    pub(crate) ioas_id: u32,
    pub(crate) fd: i32,
    pub(crate) start: u64,
    pub(crate) length: u64,
    pub(crate) iova: u64,
}

/// `VFIO_DEVICE_FEATURE_GET`.
pub(crate) const FEATURE_GET: u32 = 1 << 16;
/// `VFIO_DEVICE_FEATURE_DMA_BUF`.
pub(crate) const FEATURE_DMA_BUF: u32 = 11;

/// `struct vfio_device_feature` with a `struct vfio_device_feature_dma_buf` of one range.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct FeatureDmaBuf {
    pub(crate) argsz: u32,
    pub(crate) feature: u32,
    pub(crate) region_index: u32,
    pub(crate) open_flags: u32,
    pub(crate) flags: u32,
    pub(crate) nr_ranges: u32,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// The size of a kernel struct, for its `argsz` field.
pub(crate) const fn argsz<T>() -> u32 {
    let size = size_of::<T>();
    assert!(size <= 4096, "no kernel struct of ours is that large");
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    let argsz = size as u32;
    argsz
}

const _: () = {
    assert!(size_of::<GroupStatus>() == 8);
    assert!(size_of::<DeviceInfo>() == 24);
    assert!(size_of::<RegionInfo>() == 32);
    assert!(size_of::<CapHeader>() == 8);
    assert!(size_of::<IrqInfo>() == 16);
    assert!(size_of::<IrqSet>() == 20);
    assert!(size_of::<HotReset>() == 12);
    assert!(size_of::<DependentDevice>() == 8);
    assert!(size_of::<DeviceFeature>() == 8);
    assert!(size_of::<LowPowerWakeup>() == 8);
    assert!(size_of::<IommuInfo>() == 24);
    assert!(size_of::<DmaMap>() == 32);
    assert!(size_of::<DmaUnmap>() == 24);
    assert!(size_of::<BindIommufd>() == 16);
    assert!(size_of::<AttachPt>() == 12);
    assert!(size_of::<DetachPt>() == 8);
    assert!(size_of::<IommuDestroy>() == 8);
    assert!(size_of::<IoasAlloc>() == 12);
    assert!(size_of::<VfioIoas>() == 12);
    assert!(size_of::<IoasIovaRanges>() == 32);
    assert!(size_of::<IoasMap>() == 40);
    assert!(size_of::<IoasUnmap>() == 24);
    assert!(size_of::<IoasMapFile>() == 40);
    assert!(size_of::<FeatureDmaBuf>() == 40);
};

#[cfg(test)]
#[path = "abi_tests.rs"]
mod tests;
