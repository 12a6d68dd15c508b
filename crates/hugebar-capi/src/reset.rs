//! Resets of a function, or of everything on its slot or bus.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use hugebar::vfio::Affected;

use crate::argument::{array, descriptor, fill};
use crate::device::hugebar_device;
use crate::error::{Result, call};
use crate::handle;

/// In place of a group whose number is unknown.
pub const HUGEBAR_NO_GROUP: u32 = u32::MAX;

/// A device that a hot reset affects.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_affected {
    /// The PCI domain.
    pub domain: u32,
    /// The bus.
    pub bus: u8,
    /// The device on its bus.
    pub device: u8,
    /// The function.
    pub function: u8,
    /// Whether the queried device's iommufd owns it: it is open there, or shares a group with one that is.
    pub owned: bool,
    /// Its IOMMU group if the queried device was opened by its group, otherwise `HUGEBAR_NO_GROUP`.
    pub group: u32,
}

impl From<&Affected> for hugebar_affected {
    fn from(own: &Affected) -> Self {
        Self {
            domain: own.address.domain,
            bus: own.address.bus,
            device: own.address.device,
            function: own.address.function,
            owned: own.owned.unwrap_or(false),
            group: own.group.unwrap_or(HUGEBAR_NO_GROUP),
        }
    }
}

/// Resets the function (`VFIO_DEVICE_RESET`). Memory decode, bus mastering and interrupts stay as they are. Mappings
/// stay but lose their leaves: `hugebar_install` brings them back. -ENOTSUP if the function cannot be reset by itself.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_device_reset(device: *const hugebar_device) -> c_int {
    call(|| Ok(handle::get(device)?.0.reset()?))
}

/// Returns whether the function can be reset by itself.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_device_can_reset(
    device: *const hugebar_device,
    can: Option<&mut MaybeUninit<bool>>,
) -> c_int {
    handle::tell(can, device, |own| Ok(own.0.can_reset()))
}

/// Lists the devices that a hot reset affects, this one included: those on its slot or bus, and all behind them. Writes
/// at most `room` of them to `affected`, which may be NULL if `room` is 0, and to `count` how many there are. -ENOTSUP
/// if neither slot nor bus can be reset, as on a root bus.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_device_hot_reset_info(
    device: *const hugebar_device,
    affected: *mut hugebar_affected,
    room: usize,
    count: Option<&mut MaybeUninit<usize>>,
) -> c_int {
    call(|| {
        let all = handle::get(device)?.0.hot_reset_info()?;
        let all: Vec<_> = all.iter().map(hugebar_affected::from).collect();
        // SAFETY: the caller's contract.
        unsafe { fill(&all, affected, room, count) }
    })
}

/// Resets all devices on the slot or bus (`VFIO_DEVICE_PCI_HOT_RESET`). `others` are the program's devices that are
/// reset as well: one of each affected group or, by iommufd, each that is open; it may be NULL if `count` is 0. All
/// other affected devices must be bound to a VFIO driver and not be open: -EBUSY otherwise, and the message names them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_device_hot_reset(
    device: *const hugebar_device,
    others: *const *const hugebar_device,
    count: usize,
) -> c_int {
    call(|| {
        let device = handle::get(device)?;
        // SAFETY: the caller's contract.
        let others = unsafe { array(others, count) }?.iter();
        let others = others.map(|&other| handle::get(other));
        let others = others.collect::<Result<Vec<_>>>()?;
        let others: Vec<_> = others.iter().map(|other| &other.0).collect();
        Ok(device.0.hot_reset(&others)?)
    })
}

/// The same for a device of `hugebar_device_from_fd`, whose groups only the program knows: `groups` are the descriptors
/// of all affected groups, or none for a device that was opened by its own node.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_device_hot_reset_by_groups(
    device: *const hugebar_device,
    groups: *const c_int,
    count: usize,
) -> c_int {
    call(|| {
        let device = handle::get(device)?;
        // SAFETY: the caller's contract.
        let groups = unsafe { array(groups, count) }?.iter();
        // SAFETY: the caller keeps them open during the call.
        let groups = groups.map(|&fd| unsafe { descriptor(fd) });
        let groups = groups.collect::<Result<Vec<_>>>()?;
        Ok(device.0.hot_reset_by_groups(&groups)?)
    })
}
