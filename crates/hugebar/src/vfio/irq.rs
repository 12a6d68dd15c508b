//! Kinds of interrupts.

use std::fmt;

use bitflags::bitflags;

/// A kind of interrupt of a PCI device (`VFIO_PCI_*_IRQ_INDEX`).
///
/// INTx, MSI and MSI-X exclude one another; the other two kinds can be enabled beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IrqKind {
    /// The interrupt line: a single, level-triggered interrupt, possibly shared with other devices. The kernel masks it
    /// when it fires (automasked), and the driver unmasks it after serving the device.
    Intx,
    /// Messages: one, or up to 32 if the platform allows it.
    Msi,
    /// Up to 2048 independent messages, from a table in a BAR.
    Msix,
    /// An uncorrected error reported to the kernel (AER). Exists on PCI Express only, though newer kernels (7.3) list it for
    /// every device.
    Error,
    /// The kernel wants the device back, because somebody unbinds or removes it. It waits until the device is closed and
    /// all its mappings are gone, and repeats the request every 10 s (`vfio_unregister_group_dev`).
    Request,
}

impl IrqKind {
    pub(super) const ALL: [Self; 5] = [
        Self::Intx,
        Self::Msi,
        Self::Msix,
        Self::Error,
        Self::Request,
    ];

    /// VFIO's index of this kind.
    pub(crate) fn index(self) -> u32 {
        match self {
            Self::Intx => 0,
            Self::Msi => 1,
            Self::Msix => 2,
            Self::Error => 3,
            Self::Request => 4,
        }
    }

    /// Whether the device itself sends it. Only one of these kinds can be enabled at a time.
    pub(super) fn is_exclusive(self) -> bool {
        matches!(self, Self::Intx | Self::Msi | Self::Msix)
    }
}

impl fmt::Display for IrqKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Intx => "INTx",
            Self::Msi => "MSI",
            Self::Msix => "MSI-X",
            Self::Error => "error interrupt",
            Self::Request => "request interrupt",
        })
    }
}

bitflags! {
    /// What interrupts of a kind support (`VFIO_IRQ_INFO_*`). Unknown bits are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct IrqFlags: u32 {
        /// They can signal eventfds.
        const EVENTFD = 1 << 0;
        /// They can be masked and unmasked.
        const MASKABLE = 1 << 1;
        /// The kernel masks an interrupt when it fires.
        const AUTOMASKED = 1 << 2;
        /// Vectors cannot be added later. Not set for MSI-X from Linux 6.5 on, if the platform allocates vectors one by one.
        const NORESIZE = 1 << 3;
        const _ = !0;
    }
}

/// A device's interrupts of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IrqInfo {
    /// How many there are; 0 if the device has none of this kind.
    pub count: u32,
    /// What they support.
    pub flags: IrqFlags,
}
