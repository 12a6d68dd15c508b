//! PCI functions as sysfs describes them, and the list of those with large BARs. Reads nothing that wakes a device.

use std::cmp::Reverse;
use std::fs;
use std::path::Path;

use hugebar::pci::{Address, ClassCode, Function, Resource};
use hugebar::{ErrorKind, Result};

use crate::error::Error;
use crate::pci_ids::PciIds;
use crate::sysfs;

/// Where the kernel lists PCI functions.
const DEVICES: &str = "/sys/bus/pci/devices";

/// How many BARs a function has at most.
const BARS: u8 = 6;

/// A PCI function. What sysfs does not say is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Described {
    /// Its address.
    pub address: Address,
    /// Vendor and device id.
    pub ids: Option<(u16, u16)>,
    /// Vendor and device id of the card; `None` for bridges.
    pub subsystem: Option<(u16, u16)>,
    /// What kind of device it is.
    pub class: Option<ClassCode>,
    /// Names from `pci.ids`.
    pub names: Names,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// The NUMA node that it is near to.
    pub numa_node: Option<u32>,
    /// The power state, as sysfs has it.
    pub power_state: Option<String>,
    /// Its memory BARs.
    pub bars: Vec<DescribedBar>,
}

/// Names from `pci.ids`, unescaped; `None` where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Names {
    /// The vendor.
    pub vendor: Option<String>,
    /// The device.
    pub device: Option<String>,
    /// The card, or else only its vendor.
    pub subsystem: Option<String>,
    /// The kind of device.
    pub class: Option<String>,
}

/// A BAR of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DescribedBar {
    /// Its number.
    pub bar: u8,
    /// Address, size and kind.
    pub resource: Resource,
}

impl DescribedBar {
    /// Its physical address; `None` if it has none.
    pub fn address(&self) -> Option<u64> {
        let resource = self.resource;
        resource.has_address().then_some(resource.start)
    }
}

impl Described {
    /// Reads a function's files.
    ///
    /// # Errors
    ///
    /// If it has vanished, or its resources cannot be read.
    pub fn of(function: &Function, ids: &PciIds) -> Result<Self> {
        let resources = function.resources()?;
        let bars = (0..BARS).zip(resources).filter_map(|(bar, resource)| {
            let resource = resource.filter(Resource::is_memory)?;
            Some(DescribedBar { bar, resource })
        });
        let mut own = Self {
            address: function.address(),
            ids: function.ids().ok(),
            subsystem: function.subsystem_ids().ok().filter(|ids| *ids != (0, 0)),
            class: function.class_code().ok(),
            names: Names::default(),
            driver: function.driver()?,
            group: function.iommu_group()?,
            // -1 on machines with one node.
            numa_node: text(function, "numa_node").and_then(|node| node.parse().ok()),
            power_state: text(function, "power_state"),
            bars: bars.collect(),
        };
        own.names = own.named(ids);
        Ok(own)
    }

    fn named(&self, ids: &PciIds) -> Names {
        let own = |text: &str| text.to_owned();
        let card = self.ids.zip(self.subsystem).and_then(|(device, card)| {
            let name = ids.subsystem(device, card);
            name.or_else(|| ids.vendor(card.0))
        });
        Names {
            vendor: self.ids.and_then(|(vendor, _)| ids.vendor(vendor)).map(own),
            device: self
                .ids
                .and_then(|(vendor, device)| ids.device(vendor, device))
                .map(own),
            subsystem: card.map(own),
            class: self.class.and_then(|code| ids.class(code)).map(own),
        }
    }

    /// Its largest BAR, the first of several.
    pub fn largest(&self) -> Option<&DescribedBar> {
        let bars = self.bars.iter();
        bars.min_by_key(|own| (Reverse(own.resource.size), own.bar))
    }
}

fn text(function: &Function, name: &str) -> Option<String> {
    let text = fs::read_to_string(sysfs::of(function, name)).ok()?;
    Some(text.trim().to_owned())
}

/// All functions, those with the largest BAR first.
///
/// # Errors
///
/// If sysfs cannot be read.
pub fn list(ids: &PciIds) -> std::result::Result<Vec<Described>, Error> {
    list_in(Path::new(DEVICES), ids)
}

/// The same of a folder like `/sys/bus/pci/devices`, such as that of a recorded tree.
///
/// # Errors
///
/// If it cannot be read.
pub fn list_in(folder: &Path, ids: &PciIds) -> std::result::Result<Vec<Described>, Error> {
    let mut all = Vec::new();
    for function in Function::all_in(folder)? {
        match Described::of(&function, ids) {
            // It was removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => (),
            described => all.push(described?),
        }
    }
    let size = |own: &Described| own.largest().map_or(0, |bar| bar.resource.size);
    all.sort_by_key(|own| (Reverse(size(own)), own.address));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_largest_bar_comes_first_and_nothing_wakes_the_device() {
        let root = tempfile::tempdir().unwrap();
        let zero = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
        let small = "0x00000000fe800000 0x00000000fe800fff 0x0000000000040200\n";
        let large = "0x0000380000000000 0x00003800ffffffff 0x000000000014220c\n";
        let ports = "0x000000000000c000 0x000000000000c01f 0x0000000000040101\n";
        let window = "0x0000380000000000 0x00003fffffffffff 0x0000000000102201\n";
        for (address, lines) in [
            (
                "0000:00:01.0",
                [ports, zero, zero, zero, zero, zero, zero, window].concat(),
            ),
            (
                "0000:01:00.0",
                [small, ports, large, zero, zero, zero].concat(),
            ),
            (
                "0000:01:00.1",
                [small, zero, zero, zero, zero, zero].concat(),
            ),
        ] {
            let folder = root.path().join(address);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("resource"), lines).unwrap();
            fs::write(folder.join("numa_node"), "-1\n").unwrap();
            // Reading one of these would fail.
            fs::create_dir(folder.join("config")).unwrap();
            fs::create_dir(folder.join("resource0_resize")).unwrap();
        }
        let gpu = root.path().join("0000:01:00.0");
        for (name, content) in [
            ("vendor", "0x10de\n"),
            ("device", "0x2331\n"),
            ("class", "0x030200\n"),
            ("numa_node", "1\n"),
            ("power_state", "D3hot\n"),
        ] {
            fs::write(gpu.join(name), content).unwrap();
        }
        symlink("../../../bus/pci/drivers/vfio-pci", gpu.join("driver")).unwrap();
        symlink("../../../kernel/iommu_groups/12", gpu.join("iommu_group")).unwrap();

        let ids = PciIds::parse("10de  NVIDIA Corporation\n\t2331  GH100 [H100 PCIe]\n");
        let all = list_in(root.path(), &ids).unwrap();
        let order: Vec<_> = all.iter().map(|own| own.address.to_string()).collect();
        assert_eq!(order, ["0000:01:00.0", "0000:01:00.1", "0000:00:01.0"]);
        let bars: Vec<_> = all[0].bars.iter().map(|own| own.bar).collect();
        assert_eq!((bars, all[0].largest().unwrap().bar), (vec![0, 2], 2));
        assert_eq!(
            all[2].largest(),
            None,
            "neither ports nor windows are memory BARs"
        );
        assert_eq!((all[0].numa_node, all[1].numa_node), (Some(1), None));
        assert_eq!(
            (all[0].driver.as_deref(), all[0].group),
            (Some("vfio-pci"), Some(12))
        );
        assert_eq!(all[0].names.device.as_deref(), Some("GH100 [H100 PCIe]"));
        assert_eq!(all[0].power_state.as_deref(), Some("D3hot"));
        assert_eq!(all[1].ids, None);
        assert!(list_in(&root.path().join("none"), &ids).is_err());
    }
}
