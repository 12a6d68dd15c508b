//! What stands between a device and its mapping, from sysfs and `/proc`. Opening it would reset it.

use std::fs;
use std::path::{Path, PathBuf};

use hugebar::facts::KernelVersion;
use hugebar::pci::Function;
use hugebar::vfio::is_vfio;
use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::{bars, health, holders};
use crate::failure::Failure;
use crate::output::Step;

/// The steps that concern a device.
pub(crate) fn steps(
    function: &Function,
    kernel: Option<KernelVersion>,
) -> Result<Vec<Step>, Failure> {
    let group = function.iommu_group()?;
    let driver = function.driver()?;
    let by_vfio = driver.as_deref().is_some_and(is_vfio);
    let node = function.vfio_node()?;
    let mut steps = vec![binding(function, driver.as_deref())];
    steps.push(match group {
        Some(group) => viability(group),
        None if health::noiommu_is_allowed() && !by_vfio => Step::ok(
            "group",
            "none, until a driver of VFIO's gives it one for no-IOMMU mode",
        ),
        None => Step::blocker(
            "group",
            "the device has no IOMMU group",
            "turn the IOMMU on; it must know the device",
        ),
    });
    if let Some(group) = group.filter(|_| by_vfio) {
        steps.push(nodes(group, node.as_deref()));
        steps.push(holders::step(function, group, node.as_deref(), kernel)?);
    }
    let state = fs::read_to_string(sysfs(function, "power_state")).ok();
    let state = state.as_deref().map(str::trim);
    steps.extend(bars::steps(function, state));
    steps.push(reset(function));
    // Asleep is normal for a device that nobody has open.
    steps.extend(state.map(|state| Step::ok("power", state)));
    Ok(steps)
}

pub(super) fn sysfs(function: &Function, name: &str) -> PathBuf {
    let devices = Path::new("/sys/bus/pci/devices");
    devices.join(function.address().to_string()).join(name)
}

fn binding(function: &Function, driver: Option<&str>) -> Step {
    if function.is_bridge() {
        let remedy = "choose a device behind it: what the kernel itself needs is not for programs";
        return Step::blocker("driver", "the device is a bridge", remedy);
    }
    let remedy = || {
        let (address, device) = (function.address(), sysfs(function, ""));
        let device = device.display();
        let unbind = match driver {
            Some(_) => format!("echo {address} > {device}driver/unbind; "),
            None => String::new(),
        };
        // Without the driver the device would be left to none.
        let load = match Path::new("/sys/bus/pci/drivers/vfio-pci").exists() {
            true => "",
            false => "modprobe vfio-pci; ",
        };
        format!(
            "{load}echo vfio-pci > {device}driver_override; {unbind}\
             echo {address} > /sys/bus/pci/drivers_probe"
        )
    };
    let mediated = mediated(&sysfs(function, ""));
    match driver {
        Some(driver) if is_vfio(driver) => Step::ok("driver", driver),
        Some(driver) if !mediated.is_empty() => Step::blocker(
            "driver",
            format!(
                "bound to {driver}, which has made mediated devices of it: {}",
                mediated.join(", ")
            ),
            "remove these first, which ends whatever uses them, and only then unbind it",
        ),
        Some(driver) => Step::blocker("driver", format!("bound to {driver}"), remedy()),
        None => Step::blocker("driver", "bound to no driver", remedy()),
    }
}

/// The mediated devices that a driver has made of a device, whose folder in sysfs this is.
fn mediated(folder: &Path) -> Vec<String> {
    let mut names = health::names(folder);
    names.retain(|name| {
        let subsystem = fs::read_link(folder.join(name).join("subsystem"));
        subsystem.is_ok_and(|subsystem| subsystem.ends_with("bus/mdev"))
    });
    names
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

/// One way of opening the device is enough: by its group, or by its own node.
fn nodes(group: u32, own: Option<&Path>) -> Step {
    let ways = [
        (
            Path::new("/dev/vfio/vfio"),
            Some(PathBuf::from(format!("/dev/vfio/{group}"))),
        ),
        (Path::new("/dev/iommu"), own.map(Path::to_owned)),
        // Without an IOMMU, where the administrator allows that.
        (
            Path::new("/dev/vfio/vfio"),
            Some(PathBuf::from(format!("/dev/vfio/noiommu-{group}"))),
        ),
    ];
    let usable = |path: &Path| {
        // By the effective user and capabilities, as `open` has it.
        let access = Access::READ_OK | Access::WRITE_OK;
        accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
    };
    let there: Vec<_> = ways
        .into_iter()
        .filter_map(|(with, node)| Some((with, node.filter(|node| node.exists())?)))
        .collect();
    if there.is_empty() {
        let remedy = "pass the nodes into this container or jail";
        let fact = format!("neither /dev/vfio/{group} nor a node of its own is there");
        return Step::blocker("node", fact, remedy);
    }
    let open: Vec<_> = there
        .iter()
        .filter(|(with, node)| usable(with) && usable(node))
        .map(|(_, node)| node.display().to_string())
        .collect();
    if !open.is_empty() {
        return Step::ok("node", format!("{} can be opened", open.join(", ")));
    }
    // All that one of the ways lacks would do.
    let lacking = there.iter().map(|(with, node)| {
        let denied = [*with, node].into_iter().filter(|path| !usable(path));
        let denied: Vec<_> = denied.map(|path| path.display().to_string()).collect();
        denied.join(" and ")
    });
    let lacking: Vec<_> = lacking.collect();
    let fact = format!("this user may not read and write {}", lacking.join(", or "));
    let remedy = "give it to a group of this user (chgrp, chmod g+rw), by a udev rule to last";
    Step::blocker("node", fact, remedy)
}

fn reset(function: &Function) -> Step {
    let methods = fs::read_to_string(sysfs(function, "reset_method")).unwrap_or_default();
    match methods.trim() {
        "" => Step::warning(
            "reset",
            "the kernel knows no way to reset it",
            "expect its state to survive from one user to the next",
        ),
        methods => Step::ok("reset", methods),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn mediated_devices_lie_below_their_parent() {
        const UUID: &str = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
        let function = tempfile::tempdir().unwrap();
        for (name, subsystem) in [(UUID, "bus/mdev"), ("drm", "class/drm"), ("power", "")] {
            let folder = function.path().join(name);
            fs::create_dir(&folder).unwrap();
            if !subsystem.is_empty() {
                symlink(format!("../../../../{subsystem}"), folder.join("subsystem")).unwrap();
            }
        }
        assert_eq!(mediated(function.path()), [UUID]);
        fs::remove_dir_all(function.path().join(UUID)).unwrap();
        assert!(mediated(function.path()).is_empty());
    }
}
