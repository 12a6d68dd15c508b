//! Turns memory decode off and on again, which removes the leaves of all mappings.

use hugebar::Result;
use hugebar::pci::Command;
use hugebar::vfio::{ConfigSpace, Device};

/// Turns memory decode off and on again (`pwrite` of the command register). Returns whether the device did so: virtual
/// functions have no such bit.
pub(super) fn off_and_on(device: &Device) -> Result<bool> {
    let config = device.config()?;
    let before = config.command()?;
    if !before.contains(Command::MEMORY) {
        return Ok(false);
    }
    let restore = Restore(&config, before);
    config.set_command(before - Command::MEMORY)?;
    let went_off = !config.command()?.contains(Command::MEMORY);
    drop(restore);
    config.set_command(before)?;
    Ok(went_off)
}

/// Turns it on again, whatever happened meanwhile.
struct Restore<'a>(&'a ConfigSpace<'a>, Command);

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        // On the way without an error the caller sets it once more, and sees whether that fails.
        let _ = self.0.set_command(self.1);
    }
}
