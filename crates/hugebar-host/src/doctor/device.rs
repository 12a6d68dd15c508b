//! What stands between a device and its mapping, from sysfs and `/proc`. Opening it would reset it.

use std::fs;

use hugebar::facts::Facts;
use hugebar::pci::Function;
use hugebar::vfio::is_vfio;

use super::step::Step;
use super::{bars, driver, holders, iommu, node, reserved};
use crate::error::Error;
use crate::sysfs;

/// The steps that concern a device.
pub(super) fn steps(function: &Function, facts: &Facts) -> Result<Vec<Step>, Error> {
    let group = function.iommu_group()?;
    let driver = function.driver()?;
    let by_vfio = driver.as_deref().is_some_and(is_vfio);
    let node = function.vfio_node()?;
    let mut steps = vec![driver::step(function, driver.as_deref())];
    steps.push(match group {
        Some(group) => viability(group),
        None if iommu::noiommu_is_allowed() && !by_vfio => Step::ok(
            "group",
            "none, until a driver of VFIO's gives it one for no-IOMMU mode",
        ),
        None => Step::blocker(
            "group",
            "the device has no IOMMU group",
            "turn the IOMMU on; it must know the device",
        ),
    });
    steps.extend(group.and_then(reserved::step));
    if let Some(group) = group.filter(|_| by_vfio) {
        steps.push(node::step(group, node.as_deref()));
        steps.push(holders::step(
            function,
            group,
            node.as_deref(),
            facts.features(),
        )?);
    }
    let state = fs::read_to_string(sysfs::of(function, "power_state")).ok();
    let state = state.as_deref().map(str::trim);
    steps.extend(bars::steps(function, state));
    steps.push(reset(function));
    // Asleep is normal for a device that nobody has open.
    steps.extend(state.map(|state| Step::ok("power", state)));
    Ok(steps)
}

fn viability(group: u32) -> Step {
    const STEP: &str = "group";
    let members = match Function::in_group(group) {
        Ok(members) => members.len(),
        Err(error) => {
            let fact = format!("group {group}: {}", error.fact());
            return Step::warning(STEP, fact, "show this process /sys/kernel/iommu_groups");
        }
    };
    let held = hugebar::vfio::held_by_others(group);
    if held.is_empty() {
        return Step::ok(STEP, format!("group {group} is viable, {members} in it"));
    }
    let fact = format!("group {group} is not viable: {}", held.join(", "));
    Step::blocker(STEP, fact, "bind it to vfio-pci too, or unbind it")
}

fn reset(function: &Function) -> Step {
    let methods = fs::read_to_string(sysfs::of(function, "reset_method")).unwrap_or_default();
    match methods.trim() {
        "" => Step::warning(
            "reset",
            "the kernel knows no way to reset it",
            "expect its state to survive from one user to the next",
        ),
        methods => Step::ok("reset", methods),
    }
}
