//! The driver that a function is bound to.

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
    let unbound = |fact: String| {
        let bind = format!("hugebar bind {}", function.address());
        Step::blocker("driver", fact, remedy::bind(function, driver)).by(bind)
    };
    let mediated = sysfs::mediated(&sysfs::of(function, ""));
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
        Some(driver) => unbound(format!("bound to {driver}")),
        None => unbound("bound to no driver".to_owned()),
    }
}
