//! IOMMU and interrupt remapping.

use std::fs;

use super::step::Step;
use crate::procfs;
use crate::sysfs::{is_on, names};

/// Where the kernel lists IOMMU groups.
const GROUPS: &str = "/sys/kernel/iommu_groups";

/// Whether an IOMMU is on, and how it is turned on.
pub(super) fn step() -> Step {
    let active = names("/sys/class/iommu");
    if !active.is_empty() {
        return Step::ok("iommu", format!("on: {}", active.join(", ")));
    }
    // Some jails have no such folder. Devices without an IOMMU have groups as well, by that name.
    let groups = names(GROUPS).into_iter().any(|group| {
        let name = fs::read_to_string(format!("{GROUPS}/{group}/name")).unwrap_or_default();
        name.trim() != "vfio-noiommu"
    });
    if groups {
        return Step::ok("iommu", "on: it has devices in groups");
    }
    let fact = "no IOMMU is on";
    let tables = names("/sys/firmware/acpi/tables");
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let remedy = turn_iommu_on(&tables, procfs::field(&cpu, "vendor_id\t"));
    if noiommu_is_allowed() {
        let fact = format!("{fact}; no-IOMMU mode is allowed: devices can reach all of memory");
        return Step::warning("iommu", fact, remedy);
    }
    Step::blocker("iommu", fact, remedy)
}

/// What to do about an IOMMU that is off, by the firmware's tables, which tell of one, and the vendor of the
/// processor.
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
        _ => "firmware tables list no IOMMU: turn on the IOMMU (on arm64 the SMMU) in its setup",
    }
}

/// Whether the administrator allows devices to be handed out without an IOMMU.
pub(super) fn noiommu_is_allowed() -> bool {
    is_on("vfio", "enable_unsafe_noiommu_mode")
}

/// Told by the names of interrupt chips on x86, not told elsewhere or without an IOMMU.
pub(super) fn interrupt_remapping() -> Option<Step> {
    const STEP: &str = "interrupt-remapping";
    if names("/sys/class/iommu").is_empty() {
        return None;
    }
    let interrupts = fs::read_to_string("/proc/interrupts").ok()?;
    if interrupts.contains(" IR-") {
        return Some(Step::ok(STEP, "on"));
    }
    if !interrupts.contains(" IO-APIC") {
        return None;
    }
    let fact = "the IOMMU does not remap interrupts";
    let modules = ["vfio_iommu_type1", "iommufd"];
    let accepted = modules
        .iter()
        .any(|module| is_on(module, "allow_unsafe_interrupts"));
    let remedy = "turn it on in the firmware and boot without intremap=off, or accept the risk with \
                  vfio_iommu_type1.allow_unsafe_interrupts=1";
    Some(if accepted {
        Step::warning(STEP, format!("{fact}, and that risk is accepted"), remedy)
    } else {
        Step::blocker(STEP, fact, remedy)
    })
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
