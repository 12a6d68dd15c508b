//! The driver that a function is bound to.

use std::fs;
use std::path::Path;

use hugebar::pci::Function;
use hugebar::vfio::{is_vfio, remedy};

use super::step::Step;
use crate::sysfs;

/// Whether the function is bound to a VFIO driver, and the commands that bind it to one.
pub(super) fn step(function: &Function, driver: Option<&str>) -> Step {
    if function.is_bridge() {
        let remedy = "choose a device behind it: vfio-pci does not bind to bridges";
        return Step::blocker("driver", "the device is a bridge", remedy);
    }
    let remedy = || remedy::bind(function, driver);
    let mediated = mediated(&sysfs::of(function, ""));
    match driver {
        Some(driver) if is_vfio(driver) => Step::ok("driver", driver),
        Some(driver) if !mediated.is_empty() => Step::blocker(
            "driver",
            format!(
                "bound to {driver}, which has created mediated devices on it: {}",
                mediated.join(", ")
            ),
            "remove these first (their users lose them), then unbind the driver",
        ),
        Some(driver) => Step::blocker("driver", format!("bound to {driver}"), remedy()),
        None => Step::blocker("driver", "bound to no driver", remedy()),
    }
}

/// The mediated devices that a driver has created on a device, given its folder in sysfs.
fn mediated(folder: &Path) -> Vec<String> {
    let mut names = sysfs::names(folder);
    names.retain(|name| {
        let subsystem = fs::read_link(folder.join(name).join("subsystem"));
        subsystem.is_ok_and(|subsystem| subsystem.ends_with("bus/mdev"))
    });
    names
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
