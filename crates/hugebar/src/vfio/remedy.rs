//! Remedies for everything that keeps a device from being mapped: one text for each cause, for this crate's errors and
//! for programs that inspect a host.

use std::fs;
use std::path::Path;

use crate::pci::{Address, Function};

/// A BAR that the kernel found no address for.
pub const NO_ADDRESS: &str = "turn on Above 4G Decoding in the firmware, or boot with pci=realloc";

/// Memory that firmware demands for a device ([`crate::pci::DirectRegion`]).
pub const RESERVED_BY_FIRMWARE: &str = "turn off the device's use by firmware in its setup (USB legacy support, \
     Pre-boot DMA Protection, Kernel DMA Protection, remote management), or move the device to another slot";

/// An IOMMU that is off. Reads firmware's list of tables (`/sys/firmware/acpi/tables`) and the processor's vendor
/// (`/proc/cpuinfo`).
pub fn iommu_off() -> &'static str {
    let tables = fs::read_dir("/sys/firmware/acpi/tables")
        .into_iter()
        .flatten();
    let tables: Vec<_> = tables
        .filter_map(|table| table.ok()?.file_name().into_string().ok())
        .collect();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let vendor = cpu.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "vendor_id").then(|| value.trim())
    });
    turn_iommu_on(&tables, vendor)
}

fn turn_iommu_on(tables: &[String], vendor: Option<&str>) -> &'static str {
    let told = |table: &str| tables.iter().any(|name| name == table);
    match vendor {
        _ if told("DMAR") => "the firmware has one (VT-d): boot with intel_iommu=on",
        _ if told("IVRS") => {
            "the firmware has one (AMD-Vi): boot without amd_iommu=off and iommu=off"
        }
        Some("GenuineIntel") => {
            "firmware tables list no IOMMU: turn on VT-d in its setup, and boot with intel_iommu=on"
        }
        Some("AuthenticAMD" | "HygonGenuine") => {
            "firmware tables list no IOMMU: turn on AMD-Vi (IOMMU) in its setup"
        }
        // Without these tables, as on arm64 and where firmware describes the machine by a device tree.
        _ => "Linux has found no IOMMU: turn it on (on arm64 the SMMU) in the firmware's setup",
    }
}

/// What to do about members of a device's group that are bound to drivers other than VFIO's: `held`, as
/// [`super::held_by_others`] names them.
pub fn free_group(address: Option<Address>, held: &[String]) -> &'static str {
    let function = address.and_then(|address| Function::at(address).ok());
    let is_ancestor = |member: &String| {
        let member = member.split(' ').next().and_then(|word| word.parse().ok());
        let behind = |function: &Function| member.is_some_and(|member| function.is_behind(member));
        function.as_ref().is_some_and(behind)
    };
    if held.iter().any(is_ancestor) {
        // Unbinding a controller such as Intel's VMD makes the devices behind it vanish.
        "the device lies behind it and would vanish if it were unbound: turn it off in the firmware's setup (VMD, \
         RAID mode), or pass the whole controller through"
    } else {
        "bind it to vfio-pci too, or unbind it"
    }
}

/// The commands that bind a function to `vfio-pci`, for root to run in a shell. `driver` is its present
/// driver.
///
/// Reads whether the module is loaded (`/sys/bus/pci/drivers/vfio-pci`), and binds nothing.
pub fn bind(function: &Function, driver: Option<&str>) -> String {
    let address = function.address();
    let device = format!("/sys/bus/pci/devices/{address}");
    let unbind = match driver {
        Some(_) => format!("echo {address} > {device}/driver/unbind; "),
        None => String::new(),
    };
    // If vfio-pci is not loaded, the device would be left without a driver.
    let load = match Path::new("/sys/bus/pci/drivers/vfio-pci").exists() {
        true => "",
        false => "modprobe vfio-pci; ",
    };
    format!(
        "{load}echo vfio-pci > {device}/driver_override; {unbind}\
         echo {address} > /sys/bus/pci/drivers_probe"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iommu_is_turned_on_as_firmware_and_processor_have_it() {
        let remedy = |table: &str, vendor| turn_iommu_on(&["APIC".into(), table.into()], vendor);
        assert!(remedy("DMAR", None).contains("intel_iommu=on"));
        assert!(remedy("IVRS", Some("AuthenticAMD")).contains("without amd_iommu=off"));
        assert!(remedy("", Some("GenuineIntel")).contains("VT-d in its setup"));
        assert!(remedy("", Some("AuthenticAMD")).contains("AMD-Vi"));
        assert!(!remedy("", Some("AuthenticAMD")).contains("intel"));
        assert!(remedy("", None).contains("SMMU"));
    }
}
