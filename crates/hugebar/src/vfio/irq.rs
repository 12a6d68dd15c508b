//! Kinds of interrupts.

use std::fmt;

use bitflags::bitflags;

/// A kind of interrupt of a PCI device (`VFIO_PCI_*_IRQ_INDEX`).
///
/// Of INTx, MSI and MSI-X one at a time can be enabled; the other two kinds stand beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IrqKind {
    /// The interrupt line: one, level-triggered, perhaps shared with other devices. The kernel masks it when it fires
    /// (automasked), and the driver unmasks it when it has served the device.
    Intx,
    /// Messages: one, or up to 32 where the platform allows.
    Msi,
    /// Messages from a table of up to 2048, each by itself.
    Msix,
    /// An uncorrected error that the kernel was told of (AER). Only PCI Express has that, though newer kernels (7.3)
    /// list it for every device.
    Error,
    /// The kernel asks for the device back, for somebody wants to unbind or remove it: that waits until the device is
    /// closed, and every mapping of it gone. Asked again every 10 s (`vfio_unregister_group_dev`).
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

    /// VFIO's number for it.
    pub(crate) fn index(self) -> u32 {
        match self {
            Self::Intx => 0,
            Self::Msi => 1,
            Self::Msix => 2,
            Self::Error => 3,
            Self::Request => 4,
        }
    }

    /// Whether it comes from the device itself, which has one of these kinds enabled at a time.
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
    /// What can be done with interrupts of a kind (`VFIO_IRQ_INFO_*`). Unknown bits are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct IrqFlags: u32 {
        /// They are signalled by eventfds.
        const EVENTFD = 1 << 0;
        /// They can be masked and unmasked.
        const MASKABLE = 1 << 1;
        /// The kernel masks one that fires, until it is unmasked.
        const AUTOMASKED = 1 << 2;
        /// Those that are enabled together are all that there can be: no vector can be added later. Unset for MSI-X
        /// from Linux 6.5 on, where the platform allocates vectors one by one.
        const NORESIZE = 1 << 3;
        const _ = !0;
    }
}

/// What a device has of a kind of interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IrqInfo {
    /// How many there are; 0 where the device has none of this kind.
    pub count: u32,
    /// What can be done with them.
    pub flags: IrqFlags,
}
