//! Who handles the faults of a mapping, by the device's driver. Not every driver with `vfio` in its name follows
//! `vfio-pci`'s rule.

use hugebar::facts::Features;

/// In-tree drivers that leave mappings to vfio-pci-core, as `vfio-pci` does: `.mmap = vfio_pci_core_mmap` in their
/// `vfio_device_ops`, in every version that has them (`drivers/vfio/pci/*/main.c`, `pds/vfio_dev.c`).
/// `hisi_acc_vfio_pci` checks the range first (`hisi_acc_vfio_pci_mmap`). Names as in sysfs.
///
/// `ism_vfio_pci` is not one of them: it has no `mmap`.
const BY_CORE: [&str; 6] = [
    "hisi_acc_vfio_pci", // 5.18
    "mlx5_vfio_pci",     // 5.18
    "pds_vfio_pci",      // 6.6
    "virtio_vfio_pci",   // 6.8
    "qat_vfio_pci",      // 6.10
    "xe-vfio-pci",       // 6.19
];

/// Replaces two BARs by the GPU's own memory, which it maps itself (`nvgrace_gpu_mmap`). It leaves the other BARs to
/// vfio-pci-core.
const NVGRACE: &str = "nvgrace_gpu_vfio_pci";

/// The regions of that memory (`RESMEM_REGION_INDEX`, `USEMEM_REGION_INDEX`).
const NVGRACE_MEMORY: [u32; 2] = [2, 4];

/// How the faults of a mapping are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Faults {
    /// By `vfio-pci`.
    VfioPci,
    /// By the same code, in another driver known to use it.
    ByCore,
    /// There are none: the driver installs base pages during `mmap`.
    BasePages,
    /// In the driver's own way, or by a driver not listed here.
    Own,
}

impl Faults {
    /// How a driver handles the faults of a mapping in `bar`, one that sysfs lists.
    pub(crate) fn of(driver: Option<&str>, bar: Option<u32>, kernel: Features) -> Self {
        match driver {
            Some("vfio-pci") => Self::VfioPci,
            Some(name) if BY_CORE.contains(&name) => Self::ByCore,
            Some(NVGRACE) if bar.is_some_and(|bar| !NVGRACE_MEMORY.contains(&bar)) => Self::ByCore,
            // `remap_pfn_range`, before the driver had a fault handler.
            Some(NVGRACE) if kernel.nvgrace_gpu_huge_leaves() == Some(false) => Self::BasePages,
            _ => Self::Own,
        }
    }

    /// The same where the mapping may belong to several devices.
    pub(crate) fn of_all(all: impl IntoIterator<Item = Self>) -> Self {
        let either = |one: Self, other: Self| match (one, other) {
            (one, other) if one == other => one,
            (Self::VfioPci | Self::ByCore, Self::VfioPci | Self::ByCore) => Self::ByCore,
            _ => Self::Own,
        };
        all.into_iter().reduce(either).unwrap_or(Self::Own)
    }

    /// Whether they follow vfio-pci's rule ([`hugebar::leaf::runs`]).
    pub(crate) fn follow_the_rule(self) -> bool {
        matches!(self, Self::VfioPci | Self::ByCore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_vfio_in_it_is_not_enough() {
        let kernel = Features::of("7.3.4");
        for (driver, expected) in [
            (Some("vfio-pci"), Faults::VfioPci),
            (Some("mlx5_vfio_pci"), Faults::ByCore),
            (Some("hisi_acc_vfio_pci"), Faults::ByCore),
            (Some("xe-vfio-pci"), Faults::ByCore),
            (Some("ism_vfio_pci"), Faults::Own),
            (Some("nvidia-vgpu-vfio"), Faults::Own),
            (Some("my-vfio-pci"), Faults::Own),
            (None, Faults::Own),
        ] {
            assert_eq!(Faults::of(driver, Some(2), kernel), expected, "{driver:?}");
        }
    }

    #[test]
    fn the_memory_of_nvgrace_gpus_was_mapped_in_base_pages() {
        for (release, bar, expected) in [
            ("6.18.15", None, Faults::BasePages),
            ("6.18.15", Some(4), Faults::BasePages),
            ("6.18.15", Some(0), Faults::ByCore),
            ("6.19.0", None, Faults::Own),
            ("6.19.0", Some(2), Faults::Own),
            ("6.19.0", Some(0), Faults::ByCore),
            // Which distributions backported it is not known.
            ("6.12.0-124.8.1.el10_1.aarch64+64k", None, Faults::Own),
        ] {
            let faults = Faults::of(Some(NVGRACE), bar, Features::of(release));
            assert_eq!(faults, expected, "{release} {bar:?}");
        }
    }

    #[test]
    fn several_devices_have_what_all_of_them_have() {
        use Faults::{BasePages, ByCore, Own, VfioPci};
        for (all, expected) in [
            (&[][..], Own),
            (&[VfioPci, VfioPci], VfioPci),
            (&[VfioPci, ByCore, VfioPci], ByCore),
            (&[VfioPci, Own], Own),
            (&[BasePages, BasePages], BasePages),
            (&[BasePages, VfioPci], Own),
        ] {
            assert_eq!(Faults::of_all(all.iter().copied()), expected, "{all:?}");
        }
    }
}
