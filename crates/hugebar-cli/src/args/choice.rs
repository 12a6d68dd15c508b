//! Choices that several commands offer.

use clap::ValueEnum;

use hugebar::mem;
use hugebar::plan;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Placement {
    /// One window for the whole BAR, congruent with its physical addresses: the fewest leaves
    Congruent,
    /// Each area at a multiple of the largest power of two in its size, up to 1 GiB: QEMU's rule
    SizeAligned,
    /// Wherever mmap puts it, as in most programs
    Plain,
}

impl Placement {
    /// All of them, the best first.
    pub(crate) const ALL: [Self; 3] = [Self::Congruent, Self::SizeAligned, Self::Plain];
}

impl From<Placement> for plan::Placement {
    fn from(placement: Placement) -> Self {
        match placement {
            Placement::Congruent => Self::Congruent,
            Placement::SizeAligned => Self::SizeAligned,
            Placement::Plain => Self::Plain,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Hint {
    /// MADV_HUGEPAGE for congruent, none for the others
    Auto,
    /// MADV_HUGEPAGE
    On,
    /// None
    Off,
    /// MADV_NOHUGEPAGE: base pages only, for comparison
    #[value(alias = "refuse")]
    NoHugepage,
}

impl From<Hint> for mem::Hint {
    fn from(hint: Hint) -> Self {
        match hint {
            Hint::Auto => Self::Auto,
            Hint::On => Self::On,
            Hint::Off => Self::Off,
            Hint::NoHugepage => Self::NoHugepage,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The first of type1 and iommufd that this host has
    Auto,
    /// The device's IOMMU group and a container: /dev/vfio/GROUP, /dev/vfio/vfio
    Type1,
    /// The device's own node and an iommufd: /dev/vfio/devices/vfioN, /dev/iommu
    Iommufd,
    /// Without an IOMMU, where the administrator allows it: the device can reach all memory
    Noiommu,
}
