//! How a function is bound to a driver of VFIO's.

use std::path::Path;

use crate::pci::Function;

/// The commands that bind a function to `vfio-pci`, for root to run in a shell. `driver` is the one that it is bound to
/// now.
///
/// Reads whether the module is loaded (`/sys/bus/pci/drivers/vfio-pci`), and binds nothing.
pub fn bind_commands(function: &Function, driver: Option<&str>) -> String {
    let address = function.address();
    let device = format!("/sys/bus/pci/devices/{address}");
    let unbind = match driver {
        Some(_) => format!("echo {address} > {device}/driver/unbind; "),
        None => String::new(),
    };
    // Without the driver the device would be left to none.
    let load = match Path::new("/sys/bus/pci/drivers/vfio-pci").exists() {
        true => "",
        false => "modprobe vfio-pci; ",
    };
    format!(
        "{load}echo vfio-pci > {device}/driver_override; {unbind}\
         echo {address} > /sys/bus/pci/drivers_probe"
    )
}
