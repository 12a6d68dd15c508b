//! Checks what a device needs to be mapped, from sysfs and `/proc`. Does not open it, because that would reset it.

use std::fs;
use std::path::Path;

use hugebar::facts::Facts;
use hugebar::pci::{Address, Function};
use hugebar::vfio::{is_vfio, remedy};

use super::step::Step;
use super::{bars, driver, held, holders, iommu, node, reserved};
use crate::error::Error;
use crate::sysfs;

const GROUP: &str = "group";

/// The steps for a device.
pub(super) fn steps(function: &Function, facts: &Facts) -> Result<Vec<Step>, Error> {
    let group = function.iommu_group()?;
    let driver = function.driver()?;
    let by_vfio = driver.as_deref().is_some_and(is_vfio);
    let node = function.vfio_node()?;
    let mut steps = vec![driver::step(function, driver.as_deref())];
    steps.push(match group {
        Some(group) => viability(function, group),
        None if iommu::noiommu_is_allowed() && !by_vfio => {
            Step::ok("group", "none; a VFIO driver creates one for no-IOMMU mode")
        }
        None => Step::blocker(
            "group",
            "the device has no IOMMU group",
            "turn on the IOMMU; it has to cover this device",
        ),
    });
    steps.extend(group.and_then(reserved::step));
    if let Some(group) = group.filter(|_| by_vfio) {
        steps.push(node::step(group, node.as_deref()));
        steps.push(holders::step(function, group, node.as_deref(), facts)?);
    }
    let state = fs::read_to_string(sysfs::of(function, "power_state")).ok();
    let state = state.as_deref().map(str::trim);
    steps.extend(bars::steps(function, state));
    if driver.is_none() || by_vfio {
        // Another driver's resources are its own.
        steps.extend(held::steps(function));
    }
    steps.push(reset(&sysfs::of(function, "")));
    // Suspended is normal for a device that no process has open.
    steps.extend(state.map(|state| Step::ok("power", state)));
    Ok(steps)
}

/// Whether the group is viable as far as its other members go. The device's own driver is a separate step.
fn viability(function: &Function, group: u32) -> Step {
    let members = match Function::in_group(group) {
        Ok(members) => members.len(),
        Err(error) => {
            let fact = format!("group {group}: {}", error.fact());
            return Step::warning(GROUP, fact, "show this process /sys/kernel/iommu_groups");
        }
    };
    let held = hugebar::vfio::held_by_others(group);
    judged(group, members, function.address(), held)
}

/// `held` describes the members that are bound to other drivers, each beginning with its address.
fn judged(group: u32, members: usize, own: Address, mut held: Vec<String>) -> Step {
    let all = held.len();
    let name = own.to_string();
    held.retain(|member| member.split(' ').next() != Some(&name));
    if !held.is_empty() {
        let fact = format!("group {group} is not viable: {}", held.join(", "));
        return Step::blocker(GROUP, fact, remedy::free_group(Some(own), &held));
    }
    let fact = match all {
        0 => format!("group {group} is viable, {members} in it"),
        _ => format!(
            "group {group} will be viable once the device is bound to vfio-pci, {members} in it"
        ),
    };
    Step::ok(GROUP, fact)
}

/// Whether the device can be reset. `folder` is the device's folder in sysfs.
fn reset(folder: &Path) -> Step {
    let methods = fs::read_to_string(folder.join("reset_method")).unwrap_or_default();
    match methods.trim() {
        "" if folder.join("reset").exists() => Step::ok(
            "reset",
            "supported; kernels before 5.15 do not name the method",
        ),
        "" => Step::warning(
            "reset",
            "the kernel has no reset method for the device",
            "expect its state to persist from one user to the next",
        ),
        methods => Step::ok("reset", methods),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::step::Status;

    #[test]
    fn a_way_to_reset_is_there_on_old_kernels_too() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(reset(folder.path()).status, Status::Warning);
        fs::write(folder.path().join("reset"), "").unwrap();
        assert_eq!(reset(folder.path()).status, Status::Ok);
        fs::write(folder.path().join("reset_method"), "flr bus\n").unwrap();
        assert_eq!(reset(folder.path()).fact, "flr bus");
    }

    #[test]
    fn a_device_is_no_offender_of_its_own_group() {
        let own: Address = "0000:01:00.0".parse().unwrap();
        let held = |address: &str| format!("{address} is bound to nvme");
        let step = judged(7, 2, own, vec![held("0000:01:00.0")]);
        assert_eq!(step.status, Status::Ok, "{step:?}");
        let step = judged(7, 2, own, vec![held("0000:01:00.0"), held("0000:01:00.1")]);
        assert_eq!(
            step.fact,
            "group 7 is not viable: 0000:01:00.1 is bound to nvme"
        );
    }
}
