//! What PCI and VFIO themselves say against taking a function.

use std::path::Path;

use hugebar::facts::Facts;
use hugebar::pci::Function;
use hugebar::vfio::is_vfio;

use super::found::Use;
use crate::error::Error;
use crate::inspect::holders;
use crate::sysfs;

pub(super) fn uses(
    function: &Function,
    driver: Option<&str>,
    folder: &Path,
) -> Result<Vec<Use>, Error> {
    let mut uses = Vec::new();
    if function.is_bridge() {
        let fact = "it is a bridge, which vfio-pci does not bind";
        let own = Use::new("bridge", fact, "choose a device behind it");
        uses.push(own.that_cannot_be_forced());
    }
    let virtual_functions = sysfs::virtual_functions(folder).len();
    if virtual_functions > 0 {
        let fact = format!("it has {virtual_functions} virtual functions");
        let address = function.address();
        let remedy = format!("take one of them, or remove them first: hugebar vf {address} 0");
        uses.push(Use::new("virtual-functions", fact, remedy));
    }
    // A host bridge of its own: a VMD controller, whose devices have another domain.
    let is_root = |name: &String| name.starts_with("pci") && name.contains(':');
    if driver == Some("vmd") || sysfs::names(folder).iter().any(is_root) {
        let fact = "it is a controller with PCI devices behind it (VMD), which would vanish";
        let remedy = "to take the devices one by one, turn VMD off in the firmware's setup";
        uses.push(Use::new("vmd", fact, remedy));
    }
    let mediated = sysfs::mediated(folder);
    if !mediated.is_empty() {
        let fact = format!("it has mediated devices: {}", mediated.join(", "));
        uses.push(Use::new("mediated", fact, "remove these first"));
    }
    if driver.is_some_and(is_vfio) {
        uses.extend(open(function)?);
    }
    Ok(uses)
}

/// Processes that have it open by VFIO. Taking it away would wait for them, without an end.
fn open(function: &Function) -> Result<Option<Use>, Error> {
    let Some(names) = holders_of(function)? else {
        return Ok(None);
    };
    let remedy = "end the process, or have it close and unmap the device";
    Ok(Some(Use::new("vfio", names, remedy)))
}

/// Who has a function open by VFIO, in words.
pub(crate) fn holders_of(function: &Function) -> Result<Option<String>, Error> {
    let Some(group) = function.iommu_group()? else {
        return Ok(None);
    };
    let node = function.vfio_node()?;
    let found = holders::of(function, group, node.as_deref(), &Facts::observe())?;
    let has = |names: &[String], how: &str| match names {
        [] => None,
        names => Some(format!("{} has it {how}", names.join(", "))),
    };
    Ok(has(&found.open, "open by VFIO").or(has(&found.mapped, "mapped")))
}
