//! IOMMU and interrupt remapping.

use std::fs;

use hugebar::vfio::remedy;

use super::step::Step;
use crate::sysfs::{is_on, names};

/// Where the kernel lists IOMMU groups.
const GROUPS: &str = "/sys/kernel/iommu_groups";

/// Whether an IOMMU is on, and how to turn it on.
pub(super) fn step() -> Step {
    let active = names("/sys/class/iommu");
    if !active.is_empty() {
        return Step::ok("iommu", format!("on: {}", active.join(", ")));
    }
    // Some jails have no such folder. VFIO creates groups of this name for devices without an IOMMU.
    let groups = names(GROUPS).into_iter().any(|group| {
        let name = fs::read_to_string(format!("{GROUPS}/{group}/name")).unwrap_or_default();
        name.trim() != "vfio-noiommu"
    });
    if groups {
        return Step::ok("iommu", "on: devices are in IOMMU groups");
    }
    let fact = "no IOMMU is on";
    let remedy = remedy::iommu_off();
    if noiommu_is_allowed() {
        let fact = format!("{fact}; no-IOMMU mode is allowed: devices can reach all memory");
        return Step::warning("iommu", fact, remedy);
    }
    Step::blocker("iommu", fact, remedy)
}

/// Whether the administrator allows devices to be opened without an IOMMU.
pub(super) fn noiommu_is_allowed() -> bool {
    is_on("vfio", "enable_unsafe_noiommu_mode")
}

/// Whether interrupts are remapped, from the names of interrupt chips on x86. `None` elsewhere and without an IOMMU.
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
        Step::warning(STEP, format!("{fact}, but that risk is accepted"), remedy)
    } else {
        Step::blocker(STEP, fact, remedy)
    })
}
