//! Compares this crate's kernel interface with `vfio-bindings` and the C headers.

use std::mem::{offset_of, size_of};

use vfio_bindings::bindings::vfio as theirs;

use super::*;
use crate::sys::headers;
use crate::sys::{ioctl, iommufd, vfio};

/// Sizes and the offset of each field.
macro_rules! same_layout {
    ($ours:ty, $theirs:ty, $($field:ident = $their_field:ident),* $(,)?) => {
        assert_eq!(size_of::<$ours>(), size_of::<$theirs>(), stringify!($ours));
        $(assert_eq!(
            offset_of!($ours, $field),
            offset_of!($theirs, $their_field),
            concat!(stringify!($ours), ".", stringify!($field)),
        );)*
    };
}

#[test]
fn structs_are_laid_out_as_in_vfio_bindings() {
    same_layout!(
        GroupStatus,
        theirs::vfio_group_status,
        argsz = argsz,
        flags = flags
    );
    same_layout!(
        DeviceInfo,
        theirs::vfio_device_info,
        argsz = argsz,
        flags = flags,
        num_regions = num_regions,
        num_irqs = num_irqs,
        cap_offset = cap_offset,
        pad = pad,
    );
    same_layout!(
        RegionInfo,
        theirs::vfio_region_info,
        argsz = argsz,
        flags = flags,
        index = index,
        cap_offset = cap_offset,
        size = size,
        offset = offset,
    );
    same_layout!(
        CapHeader,
        theirs::vfio_info_cap_header,
        id = id,
        version = version,
        next = next
    );
    same_layout!(
        IrqInfo,
        theirs::vfio_irq_info,
        argsz = argsz,
        flags = flags,
        index = index,
        count = count,
    );
    same_layout!(
        IrqSet,
        theirs::vfio_irq_set,
        argsz = argsz,
        flags = flags,
        index = index,
        start = start,
        count = count,
    );
    assert_eq!(offset_of!(theirs::vfio_irq_set, data), size_of::<IrqSet>());
    same_layout!(
        HotReset,
        theirs::vfio_pci_hot_reset_info,
        argsz = argsz,
        flags = flags,
        count = count,
    );
    same_layout!(
        HotReset,
        theirs::vfio_pci_hot_reset,
        argsz = argsz,
        flags = flags,
        count = count,
    );
    same_layout!(
        DeviceFeature,
        theirs::vfio_device_feature,
        argsz = argsz,
        flags = flags,
    );
    let behind = size_of::<DeviceFeature>();
    assert_eq!(offset_of!(theirs::vfio_device_feature, data), behind);
    same_layout!(
        LowPowerWakeup,
        theirs::vfio_device_low_power_entry_with_wakeup,
        wakeup_eventfd = wakeup_eventfd,
        reserved = reserved,
    );
    let behind = size_of::<HotReset>();
    assert_eq!(offset_of!(theirs::vfio_pci_hot_reset_info, devices), behind);
    assert_eq!(offset_of!(theirs::vfio_pci_hot_reset, group_fds), behind);
    same_layout!(
        DependentDevice,
        theirs::vfio_pci_dependent_device,
        id = __bindgen_anon_1,
        segment = segment,
        bus = bus,
        devfn = devfn,
    );
    same_layout!(
        Pair,
        theirs::vfio_region_sparse_mmap_area,
        first = offset,
        second = size,
    );
    same_layout!(Pair, theirs::vfio_iova_range, first = start, second = end);
    same_layout!(
        IommuInfo,
        theirs::vfio_iommu_type1_info,
        argsz = argsz,
        flags = flags,
        iova_pgsizes = iova_pgsizes,
        cap_offset = cap_offset,
        pad = pad,
    );
    same_layout!(
        DmaMap,
        theirs::vfio_iommu_type1_dma_map,
        argsz = argsz,
        flags = flags,
        vaddr = vaddr,
        iova = iova,
        size = size,
    );
    same_layout!(
        DmaUnmap,
        theirs::vfio_iommu_type1_dma_unmap,
        argsz = argsz,
        flags = flags,
        iova = iova,
        size = size,
    );
    // These grow at their ends; ours are what every kernel takes.
    macro_rules! same_start {
        ($ours:ty, $theirs:ty, $($field:ident),*) => {$(assert_eq!(
            offset_of!($ours, $field),
            offset_of!($theirs, $field),
            concat!(stringify!($ours), ".", stringify!($field)),
        );)*};
    }
    same_start!(
        BindIommufd,
        theirs::vfio_device_bind_iommufd,
        argsz,
        flags,
        iommufd,
        out_devid
    );
    same_start!(
        AttachPt,
        theirs::vfio_device_attach_iommufd_pt,
        argsz,
        flags,
        pt_id
    );
    same_start!(
        DetachPt,
        theirs::vfio_device_detach_iommufd_pt,
        argsz,
        flags
    );
    same_layout!(
        IommuDestroy,
        iommufd_bindings::iommu_destroy,
        size = size,
        id = id
    );
    same_layout!(
        IoasAlloc,
        iommufd_bindings::iommu_ioas_alloc,
        size = size,
        flags = flags,
        out_ioas_id = out_ioas_id,
    );
    same_layout!(
        IoasIovaRanges,
        iommufd_bindings::iommu_ioas_iova_ranges,
        size = size,
        ioas_id = ioas_id,
        num_iovas = num_iovas,
        reserved = __reserved,
        allowed_iovas = allowed_iovas,
        out_iova_alignment = out_iova_alignment,
    );
    same_layout!(
        Pair,
        iommufd_bindings::iommu_iova_range,
        first = start,
        second = last,
    );
    same_layout!(
        IoasMap,
        iommufd_bindings::iommu_ioas_map,
        size = size,
        flags = flags,
        ioas_id = ioas_id,
        reserved = __reserved,
        user_va = user_va,
        length = length,
        iova = iova,
    );
    same_layout!(
        IoasUnmap,
        iommufd_bindings::iommu_ioas_unmap,
        size = size,
        ioas_id = ioas_id,
        iova = iova,
        length = length,
    );
    same_layout!(
        IoasMapFile,
        iommufd_bindings::iommu_ioas_map_file,
        size = size,
        flags = flags,
        ioas_id = ioas_id,
        fd = fd,
        start = start,
        length = length,
        iova = iova,
    );
    same_layout!(
        VfioIoas,
        iommufd_bindings::iommu_vfio_ioas,
        size = size,
        ioas_id = ioas_id,
        op = op,
        reserved = __reserved,
    );
    // Ours leave out the header that these start with.
    let header = size_of::<CapHeader>();
    let list = header + size_of::<ListHead>();
    assert_eq!(
        offset_of!(theirs::vfio_region_info_cap_sparse_mmap, nr_areas),
        header
    );
    assert_eq!(
        offset_of!(theirs::vfio_region_info_cap_sparse_mmap, areas),
        list
    );
    assert_eq!(
        offset_of!(theirs::vfio_iommu_type1_info_cap_iova_range, nr_iovas),
        header
    );
    assert_eq!(
        offset_of!(theirs::vfio_iommu_type1_info_cap_iova_range, iova_ranges),
        list
    );
    assert_eq!(
        offset_of!(theirs::vfio_iommu_type1_info_dma_avail, avail),
        header
    );
    assert_eq!(offset_of!(theirs::vfio_region_info_cap_type, type_), header);
    assert_eq!(
        offset_of!(theirs::vfio_region_info_cap_type, subtype),
        header + 4
    );
}

#[test]
fn constants_are_those_of_vfio_bindings() {
    let pairs: &[(u32, u32)] = &[
        (
            u32::try_from(API_VERSION).unwrap(),
            theirs::VFIO_API_VERSION,
        ),
        (TYPE1V2_IOMMU, theirs::VFIO_TYPE1v2_IOMMU),
        (NOIOMMU_IOMMU, theirs::VFIO_NOIOMMU_IOMMU),
        (GROUP_VIABLE, theirs::VFIO_GROUP_FLAGS_VIABLE),
        (FEATURE_SET, theirs::VFIO_DEVICE_FEATURE_SET),
        (FEATURE_PROBE, theirs::VFIO_DEVICE_FEATURE_PROBE),
        (
            FEATURE_LOW_POWER_ENTRY,
            theirs::VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
        ),
        (
            FEATURE_LOW_POWER_WAKEUP,
            theirs::VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
        ),
        (
            FEATURE_LOW_POWER_EXIT,
            theirs::VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
        ),
        (DEVICE_RESET, theirs::VFIO_DEVICE_FLAGS_RESET),
        (HOT_RESET_DEV_ID, theirs::VFIO_PCI_HOT_RESET_FLAG_DEV_ID),
        (DEVID_OWNED, theirs::VFIO_PCI_DEVID_OWNED),
        (
            DEVID_NOT_OWNED,
            // It is -1, in another type.
            u32::from_ne_bytes(theirs::VFIO_PCI_DEVID_NOT_OWNED.to_ne_bytes()),
        ),
        (DEVICE_PCI, theirs::VFIO_DEVICE_FLAGS_PCI),
        (REGION_CAPS, theirs::VFIO_REGION_INFO_FLAG_CAPS),
        (IOMMU_CAPS, theirs::VFIO_IOMMU_INFO_CAPS),
        (
            CAP_SPARSE_MMAP.into(),
            theirs::VFIO_REGION_INFO_CAP_SPARSE_MMAP,
        ),
        (CAP_TYPE.into(), theirs::VFIO_REGION_INFO_CAP_TYPE),
        (
            CAP_MSIX_MAPPABLE.into(),
            theirs::VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
        ),
        (
            CAP_IOVA_RANGE.into(),
            theirs::VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
        ),
        (
            CAP_DMA_AVAIL.into(),
            theirs::VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
        ),
        (FEATURE_GET, theirs::VFIO_DEVICE_FEATURE_GET),
        (DMA_READ, theirs::VFIO_DMA_MAP_FLAG_READ),
        (DMA_WRITE, theirs::VFIO_DMA_MAP_FLAG_WRITE),
        (
            IOAS_MAP_FIXED_IOVA,
            iommufd_bindings::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA,
        ),
        (
            IOAS_MAP_WRITEABLE,
            iommufd_bindings::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE,
        ),
        (
            IOAS_MAP_READABLE,
            iommufd_bindings::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE,
        ),
        (IRQ_DATA_NONE, theirs::VFIO_IRQ_SET_DATA_NONE),
        (IRQ_DATA_BOOL, theirs::VFIO_IRQ_SET_DATA_BOOL),
        (IRQ_DATA_EVENTFD, theirs::VFIO_IRQ_SET_DATA_EVENTFD),
        (IRQ_MASK, theirs::VFIO_IRQ_SET_ACTION_MASK),
        (IRQ_UNMASK, theirs::VFIO_IRQ_SET_ACTION_UNMASK),
        (IRQ_TRIGGER, theirs::VFIO_IRQ_SET_ACTION_TRIGGER),
        (PCI_CONFIG_REGION, theirs::VFIO_PCI_CONFIG_REGION_INDEX),
        (PCI_BARS, theirs::VFIO_PCI_ROM_REGION_INDEX),
    ];
    for (index, (ours, theirs)) in pairs.iter().enumerate() {
        assert_eq!(ours, theirs, "constant {index}");
    }
    use crate::vfio::{IrqFlags, IrqKind, RegionFlags};
    let irqs = [
        (IrqFlags::EVENTFD, theirs::VFIO_IRQ_INFO_EVENTFD),
        (IrqFlags::MASKABLE, theirs::VFIO_IRQ_INFO_MASKABLE),
        (IrqFlags::AUTOMASKED, theirs::VFIO_IRQ_INFO_AUTOMASKED),
        (IrqFlags::NORESIZE, theirs::VFIO_IRQ_INFO_NORESIZE),
    ];
    for (ours, theirs) in irqs {
        assert_eq!(ours.bits(), theirs);
    }
    let kinds = [
        (IrqKind::Intx, theirs::VFIO_PCI_INTX_IRQ_INDEX),
        (IrqKind::Msi, theirs::VFIO_PCI_MSI_IRQ_INDEX),
        (IrqKind::Msix, theirs::VFIO_PCI_MSIX_IRQ_INDEX),
        (IrqKind::Error, theirs::VFIO_PCI_ERR_IRQ_INDEX),
        (IrqKind::Request, theirs::VFIO_PCI_REQ_IRQ_INDEX),
    ];
    for (ours, theirs) in kinds {
        assert_eq!(ours.index(), theirs, "{ours}");
    }
    assert_eq!(RegionFlags::READ.bits(), theirs::VFIO_REGION_INFO_FLAG_READ);
    assert_eq!(
        RegionFlags::WRITE.bits(),
        theirs::VFIO_REGION_INFO_FLAG_WRITE
    );
    assert_eq!(RegionFlags::MMAP.bits(), theirs::VFIO_REGION_INFO_FLAG_MMAP);
    assert_eq!(RegionFlags::CAPS.bits(), theirs::VFIO_REGION_INFO_FLAG_CAPS);
}

/// `vfio-bindings` has no ioctl numbers, so the C compiler checks those of the headers.
#[test]
fn ioctl_numbers_and_sizes_are_those_of_the_c_headers() {
    fn named<A: ?Sized>(request: ioctl::Request<A>) -> (&'static str, u32) {
        (request.name, request.number)
    }
    let requests = [
        named(vfio::GET_API_VERSION),
        named(vfio::CHECK_EXTENSION),
        named(vfio::SET_IOMMU),
        named(vfio::GROUP_GET_STATUS),
        named(vfio::GROUP_SET_CONTAINER),
        named(vfio::GROUP_GET_DEVICE_FD),
        named(vfio::DEVICE_GET_INFO),
        named(vfio::DEVICE_GET_REGION_INFO),
        named(vfio::DEVICE_GET_IRQ_INFO),
        named(vfio::DEVICE_SET_IRQS),
        named(vfio::DEVICE_RESET),
        named(vfio::DEVICE_GET_PCI_HOT_RESET_INFO),
        named(vfio::DEVICE_PCI_HOT_RESET),
        named(vfio::DEVICE_FEATURE),
        named(vfio::IOMMU_GET_INFO),
        named(vfio::IOMMU_MAP_DMA),
        named(vfio::IOMMU_UNMAP_DMA),
        named(vfio::DEVICE_BIND_IOMMUFD),
        named(vfio::DEVICE_ATTACH_IOMMUFD_PT),
        named(vfio::DEVICE_DETACH_IOMMUFD_PT),
        named(iommufd::DESTROY),
        named(iommufd::IOAS_ALLOC),
        named(iommufd::IOAS_IOVA_RANGES),
        named(iommufd::IOAS_MAP),
        named(iommufd::IOAS_UNMAP),
        named(iommufd::IOAS_MAP_FILE),
        named(iommufd::VFIO_IOAS),
        // One request for all features.
        ("VFIO_DEVICE_FEATURE", vfio::DEVICE_FEATURE_DMA_BUF.number),
    ];
    // A struct of these can only grow at its end, which `argsz` tells the kernel.
    let structs = [
        ("vfio_group_status", size_of::<GroupStatus>()),
        ("vfio_region_info", size_of::<RegionInfo>()),
        ("vfio_irq_info", size_of::<IrqInfo>()),
        ("vfio_irq_set", size_of::<IrqSet>()),
        ("vfio_pci_dependent_device", size_of::<DependentDevice>()),
        ("vfio_device_feature", size_of::<DeviceFeature>()),
        ("vfio_pci_hot_reset_info", size_of::<HotReset>()),
        ("vfio_pci_hot_reset", size_of::<HotReset>()),
        ("vfio_info_cap_header", size_of::<CapHeader>()),
        ("vfio_region_sparse_mmap_area", size_of::<Pair>()),
        ("vfio_iommu_type1_dma_map", size_of::<DmaMap>()),
        ("vfio_iommu_type1_dma_unmap", size_of::<DmaUnmap>()),
    ];
    let mut source = String::from(
        "#include <linux/vfio.h>\n#include <linux/pci_regs.h>\n\
         #if __has_include(<linux/iommufd.h>)\n#include <linux/iommufd.h>\n#endif\n",
    );
    for (name, number) in requests {
        // Headers of an older kernel lack the newer ones.
        let newer = name.starts_with("IOMMU_") || name.contains("IOMMUFD");
        let (ask, end) = if newer {
            (format!("#ifdef {name}\n"), "#endif\n")
        } else {
            (String::new(), "")
        };
        source.push_str(&format!(
            "{ask}_Static_assert({name} == {number}, \"{name}\");\n{end}"
        ));
    }
    let mut assert = |condition: String| {
        source.push_str(&format!("_Static_assert({condition}, \"{condition}\");\n"));
    };
    for (name, size) in structs {
        assert(format!("sizeof(struct {name}) == {size}"));
    }
    assert("PCI_CAP_ID_MSIX == 0x11 && PCI_STATUS == 6 && PCI_CAPABILITY_LIST == 0x34".into());
    assert("PCI_STATUS_CAP_LIST == 0x10 && PCI_MSIX_FLAGS_QSIZE == 0x7ff".into());
    source.push_str(&format!(
        "#ifdef VFIO_DEVICE_FEATURE_DMA_BUF\n\
         _Static_assert(VFIO_DEVICE_FEATURE_DMA_BUF == {FEATURE_DMA_BUF}, \"feature\");\n\
         _Static_assert(sizeof(struct vfio_device_feature_dma_buf) + 8 + 16 == {}, \"its struct\");\n#endif\n",
        size_of::<FeatureDmaBuf>()
    ));
    headers::assert_compiles(&source);
}
