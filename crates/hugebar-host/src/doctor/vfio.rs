//! VFIO's drivers, modules and nodes.

use std::path::Path;

use hugebar::vfio::is_vfio;

use super::iommu::noiommu_is_allowed;
use super::step::Step;
use crate::sysfs::names;

/// Where the kernel lists drivers of PCI devices.
const DRIVERS: &str = "/sys/bus/pci/drivers";

/// Whether VFIO is loaded, and its nodes are visible to this process.
pub(super) fn step() -> Step {
    let nodes = ["/dev/vfio/vfio", "/dev/iommu"];
    let there: Vec<_> = nodes
        .into_iter()
        .filter(|node| Path::new(node).exists())
        .collect();
    let mut drivers = names(DRIVERS);
    drivers.retain(|driver| is_vfio(driver));
    let iommus = ["vfio_iommu_type1", "iommufd"];
    let loaded = |module: &str| Path::new("/sys/module").join(module).exists();
    if drivers.is_empty() && Path::new(DRIVERS).exists() {
        // A node can exist without its module: opening it loads the module.
        let fact = "no VFIO driver for PCI devices is loaded";
        return Step::blocker("vfio", fact, "modprobe vfio-pci");
    }
    if there.is_empty() {
        let fact = "neither /dev/vfio/vfio nor /dev/iommu exists";
        return Step::blocker("vfio", fact, "in a container or jail, pass the nodes in");
    }
    let fact = [drivers.join(", "), there.join(", ")];
    let fact = fact.into_iter().filter(|part| !part.is_empty());
    let fact = fact.collect::<Vec<_>>().join("; ");
    if !noiommu_is_allowed() && !iommus.into_iter().any(loaded) {
        let fact = format!("{fact}; neither of {} is loaded", iommus.join(" and "));
        return Step::warning("vfio", fact, "modprobe vfio_iommu_type1");
    }
    Step::ok("vfio", fact)
}
