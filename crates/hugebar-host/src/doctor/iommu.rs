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

/// Whether a device can raise only its own interrupts, from the names of interrupt chips: by the IOMMU's remapping on x86, by
/// the interrupt controller (a GIC with an ITS) on arm64. `None` where these do not tell, and without an IOMMU.
pub(super) fn interrupt_remapping() -> Option<Step> {
    const STEP: &str = "interrupt-remapping";
    if names("/sys/class/iommu").is_empty() {
        return None;
    }
    let interrupts = fs::read_to_string("/proc/interrupts").unwrap_or_default();
    let by_chips =
        remapping(&interrupts).or_else(|| device_tree_has_its().then_some(Remapping::Its));
    let (fact, fix) = match by_chips? {
        Remapping::Iommu => return Some(Step::ok(STEP, "on")),
        Remapping::Its => return Some(Step::ok(STEP, "on, by the interrupt controller's ITS")),
        Remapping::NoIommu => (
            "the IOMMU does not remap interrupts",
            "turn it on in the firmware and boot without intremap=off",
        ),
        Remapping::NoIts => (
            "the interrupt controller has no ITS, so a device can raise any message-signalled interrupt",
            "use a machine whose interrupt controller (GICv3 or later) has an ITS",
        ),
    };
    let modules = ["vfio_iommu_type1", "iommufd"];
    let accepted = modules
        .iter()
        .any(|module| is_on(module, "allow_unsafe_interrupts"));
    let remedy =
        format!("{fix}, or accept the risk with vfio_iommu_type1.allow_unsafe_interrupts=1");
    Some(if accepted {
        Step::warning(STEP, format!("{fact}, but that risk is accepted"), remedy)
    } else {
        Step::blocker(STEP, fact, remedy)
    })
}

/// What isolates the interrupts of devices, or does not.
#[derive(Debug, PartialEq, Eq)]
enum Remapping {
    Iommu,
    NoIommu,
    Its,
    NoIts,
}

/// Finds the chips in `/proc/interrupts`.
fn remapping(interrupts: &str) -> Option<Remapping> {
    let has = |chip| interrupts.contains(chip);
    if has(" IR-") {
        Some(Remapping::Iommu)
    } else if has(" IO-APIC") {
        Some(Remapping::NoIommu)
    } else if has(" ITS-") {
        Some(Remapping::Its)
    } else if has(" GICv2m-") || has(" MBI-") {
        // Frames for message-signalled interrupts, which any device can write to.
        Some(Remapping::NoIts)
    } else {
        None
    }
}

/// Whether the device tree has an ITS below the interrupt controller. No driver may use message-signalled interrupts yet.
fn device_tree_has_its() -> bool {
    const TREE: &str = "/sys/firmware/devicetree/base";
    names(TREE).iter().any(|controller| {
        let controller = format!("{TREE}/{controller}");
        names(&controller).iter().any(|own| {
            let compatible = fs::read(format!("{controller}/{own}/compatible"));
            compatible.is_ok_and(|text| text.starts_with(b"arm,gic-v3-its"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chips_tell_what_isolates_interrupts() {
        for (chips, found) in [
            (
                " 9:  0  IR-IO-APIC    9-fasteoi   acpi\n",
                Some(Remapping::Iommu),
            ),
            (
                " 9:  0  IO-APIC    9-fasteoi   acpi\n",
                Some(Remapping::NoIommu),
            ),
            (
                "21:  1  ITS-PCI-MSIX-0000:00:11.0    0 Edge  PCIe PME\n",
                Some(Remapping::Its),
            ),
            (
                "21:  1  GICv2m-PCI-MSI-0000:00:11.0    0 Edge  nvme0q0\n",
                Some(Remapping::NoIts),
            ),
            ("11: 765  GICv3    27 Level     arch_timer\n", None),
            ("", None),
        ] {
            assert_eq!(remapping(chips), found, "{chips}");
        }
    }
}
