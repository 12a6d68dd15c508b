//! Configuration space of a device, by name.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use hugebar::pci::Command;
use hugebar::vfio::ConfigSpace;

use crate::device::hugebar_device;
use crate::error::{Failure, Result, call};
use crate::handle;

/// What a device is.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_identity {
    /// Its vendor.
    pub vendor: u16,
    /// The vendor's number of the device.
    pub device: u16,
    /// The vendor of the card.
    pub subsystem_vendor: u16,
    /// That vendor's number of the card.
    pub subsystem_device: u16,
    /// The class code, such as 0x010802 for NVMe: class, subclass, and programming interface in the lowest byte.
    pub class_code: u32,
    /// The revision.
    pub revision: u8,
}

/// The body of a function that reads something of configuration space.
fn read<T>(
    place: Option<&mut MaybeUninit<T>>,
    device: *const hugebar_device,
    find: impl FnOnce(&ConfigSpace<'_>) -> Result<T>,
) -> c_int {
    handle::tell(place, device, |own| find(&own.0.config()?))
}

/// The body of a function that writes to configuration space.
fn write(
    device: *const hugebar_device,
    change: impl FnOnce(&ConfigSpace<'_>) -> hugebar::Result<()>,
) -> c_int {
    call(|| Ok(change(&handle::get(device)?.0.config()?)?))
}

/// A capability that must be there.
fn present(offset: Option<u16>, what: &str, id: u16) -> Result<u16> {
    let missing = || Failure::new(libc::ENOENT, format!("the device has no {what} {id:#x}"));
    offset.ok_or_else(missing)
}

/// Returns what the device is: its ids, its class and its revision.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_config_identity(
    device: *const hugebar_device,
    identity: Option<&mut MaybeUninit<hugebar_identity>>,
) -> c_int {
    read(identity, device, |config| {
        let (vendor, device) = config.ids()?;
        let (subsystem_vendor, subsystem_device) = config.subsystem_ids()?;
        let class = config.class_code()?;
        let class = [0, class.class, class.subclass, class.interface];
        Ok(hugebar_identity {
            vendor,
            device,
            subsystem_vendor,
            subsystem_device,
            class_code: u32::from_be_bytes(class),
            revision: config.revision()?,
        })
    })
}

/// Returns the size of configuration space: 256 bytes, or 4096 with its extended part.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_config_size(
    device: *const hugebar_device,
    size: Option<&mut MaybeUninit<u64>>,
) -> c_int {
    read(size, device, |config| Ok(config.size()))
}

/// Reads the command register (`PCI_COMMAND_MEMORY` and others of linux/pci_regs.h).
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_config_command(
    device: *const hugebar_device,
    command: Option<&mut MaybeUninit<u16>>,
) -> c_int {
    read(command, device, |config| Ok(config.command()?.bits()))
}

/// Writes the command register. Without `PCI_COMMAND_MEMORY` all mappings of the device's BARs lose their leaves, and
/// an access raises SIGBUS.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_config_set_command(device: *const hugebar_device, command: u16) -> c_int {
    let command = Command::from_bits_retain(command);
    write(device, |config| config.set_command(command))
}

/// Reads the status register (`PCI_STATUS_CAP_LIST` and others of linux/pci_regs.h).
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_config_status(
    device: *const hugebar_device,
    status: Option<&mut MaybeUninit<u16>>,
) -> c_int {
    read(status, device, |config| Ok(config.status()?))
}

/// Finds the first capability with an id (`PCI_CAP_ID_EXP` and others of linux/pci_regs.h), and returns where it
/// starts. -ENOENT if there is none; the driver may leave some out.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_config_capability(
    device: *const hugebar_device,
    id: u8,
    offset: Option<&mut MaybeUninit<u16>>,
) -> c_int {
    read(offset, device, |config| {
        present(config.capability(id)?, "capability", id.into())
    })
}

/// Finds the first extended capability with an id (`PCI_EXT_CAP_ID_ERR` and others of linux/pci_regs.h), as
/// `hugebar_config_capability`.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_config_extended_capability(
    device: *const hugebar_device,
    id: u16,
    offset: Option<&mut MaybeUninit<u16>>,
) -> c_int {
    read(offset, device, |config| {
        present(config.extended_capability(id)?, "extended capability", id)
    })
}

/// Reads 8 bits of configuration space.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_config_read_u8(
    device: *const hugebar_device,
    offset: u16,
    value: Option<&mut MaybeUninit<u8>>,
) -> c_int {
    read(value, device, |config| Ok(config.read_u8(offset)?))
}

/// Reads 16 bits of configuration space, at an offset that is a multiple of 2, in the order of this machine.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_config_read_u16(
    device: *const hugebar_device,
    offset: u16,
    value: Option<&mut MaybeUninit<u16>>,
) -> c_int {
    read(value, device, |config| Ok(config.read_u16(offset)?))
}

/// Reads 32 bits of configuration space, at an offset that is a multiple of 4, in the order of this machine.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_config_read_u32(
    device: *const hugebar_device,
    offset: u16,
    value: Option<&mut MaybeUninit<u32>>,
) -> c_int {
    read(value, device, |config| Ok(config.read_u32(offset)?))
}

/// Writes 8 bits of configuration space. Bits that are read-only, or that the driver keeps for itself, do not change,
/// without an error. Interrupts are set up by `hugebar_interrupts_enable`.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_config_write_u8(
    device: *const hugebar_device,
    offset: u16,
    value: u8,
) -> c_int {
    write(device, |config| config.write_u8(offset, value))
}

/// Writes 16 bits of configuration space, at an offset that is a multiple of 2, as `hugebar_config_write_u8`.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_config_write_u16(
    device: *const hugebar_device,
    offset: u16,
    value: u16,
) -> c_int {
    write(device, |config| config.write_u16(offset, value))
}

/// Writes 32 bits of configuration space, at an offset that is a multiple of 4, as `hugebar_config_write_u8`.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_config_write_u32(
    device: *const hugebar_device,
    offset: u16,
    value: u32,
) -> c_int {
    write(device, |config| config.write_u32(offset, value))
}

/// Allows the device DMA, and interrupts by MSI and MSI-X, or forbids them (the bus master bit). Opening a device
/// forbids them.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_device_set_bus_master(device: *const hugebar_device, on: bool) -> c_int {
    call(|| Ok(handle::get(device)?.0.set_bus_master(on)?))
}

/// Returns whether memory decode is on. While it is off, an access to a mapping of a BAR raises SIGBUS.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_device_memory_decode(
    device: *const hugebar_device,
    on: Option<&mut MaybeUninit<bool>>,
) -> c_int {
    handle::tell(on, device, |own| Ok(own.0.memory_decode()?))
}
