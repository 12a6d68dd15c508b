//! Finds the device, region and offset of a mapping in another process.

use std::path::Path;

use hugebar::facts::{Facts, Features};
use hugebar::pci::{Address, Bar, Function};
use hugebar::vfio::is_vfio;

use super::driver::Faults;
use super::held::{FileKind, OpenFile, Vma};
use super::nodes::Node;
use crate::procfs::FileId;
use crate::sysfs::names;

/// The bit of a file offset at which the region's number begins (`VFIO_PCI_OFFSET_SHIFT`).
const REGION_SHIFT: u32 = 40;

/// What the kernel's view of a mapping depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    kernel: Features,
    /// The base page in bytes, the smallest unit of mapping.
    page: u64,
}

impl From<&Facts> for Host {
    fn from(facts: &Facts) -> Self {
        Self {
            kernel: facts.features(),
            page: facts.leaf_sizes.base(),
        }
    }
}

/// The devices that a process has open.
#[derive(Debug, Default)]
pub(crate) struct OpenDevices {
    /// Its device files, and the device of each, if known.
    open: Vec<(FileId, Option<Device>)>,
    /// The devices in its open IOMMU groups.
    in_groups: Vec<Device>,
}

/// A device that a mapping may belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// The PCI address, or a mediated device's name in sysfs.
    pub(crate) name: String,
    /// The driver that it is bound to, if known.
    driver: Option<String>,
    /// The function's BARs; none for a mediated device, whose regions are not its parent's.
    bars: [Option<Bar>; 6],
}

/// What is known about where a mapping belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Exactly one if it is certain.
    pub(crate) devices: Vec<Device>,
    pub(crate) place: Option<Place>,
    /// Who handles its faults, whichever of the devices it is.
    pub(crate) faults: Faults,
    /// Whether it lies in a BAR listed in sysfs, whichever device it is. Its alignment is known then.
    pub(crate) in_bar: bool,
}

/// Where in a device a mapping begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) region: u32,
    pub(crate) offset: u64,
    /// The physical address; `None` if the region is not a BAR listed in sysfs.
    pub(crate) physical: Option<u64>,
}

#[cfg(test)]
impl Resolved {
    /// A mapping of a device of which only the name is known.
    pub(crate) fn test(name: &str, place: Place, faults: Faults) -> Self {
        let device = Device {
            name: name.to_owned(),
            driver: None,
            bars: [None; 6],
        };
        Self {
            devices: vec![device],
            in_bar: place.physical.is_some(),
            place: Some(place),
            faults,
        }
    }
}

impl OpenDevices {
    /// The devices behind the files that a process has open.
    pub(crate) fn of(open: Vec<OpenFile>) -> Self {
        let mut devices = Self::default();
        for OpenFile { file, kind, path } in open {
            let node = match kind {
                FileKind::Node(Node::Group(group)) => {
                    devices.in_groups.extend(in_group(group));
                    continue;
                }
                FileKind::Node(Node::Device(node)) => Some(node),
                FileKind::Device => None,
            };
            let device = path.and_then(|path| Device::at(Path::new(&path)));
            let device = device.or_else(|| Device::by_node(&node?));
            devices.open.push((file, device));
        }
        devices
    }

    /// Finds device, region and offset of a mapping.
    pub(crate) fn resolve(&self, vma: &Vma, host: Host) -> Resolved {
        let mut candidates = self.candidates(vma);
        let fitting = |device: &Device| device.fits(vma, host);
        if candidates.len() > 1 {
            // On old kernels the physical address decides; on others the size often does.
            candidates.retain(fitting);
        }
        let places: Vec<_> = candidates.iter().map(|one| one.place(vma, host)).collect();
        let faults = candidates.iter().zip(&places).map(|(device, place)| {
            let bar = place.map(|place| place.region);
            Faults::of(device.driver.as_deref(), bar, host.kernel)
        });
        let faults = Faults::of_all(faults);
        let place = match places.as_slice() {
            [only] => *only,
            _ => None,
        };
        // A driver that maps base pages at once shows their physical address instead (`nvgrace_gpu_mmap`).
        let encoded = || Place::encoded(vma, host.kernel).filter(|_| faults != Faults::BasePages);
        Resolved {
            place: place.or_else(encoded),
            faults,
            in_bar: !places.is_empty() && places.iter().all(Option::is_some),
            devices: candidates,
        }
    }

    fn candidates(&self, vma: &Vma) -> Vec<Device> {
        if let Some(node) = &vma.node {
            return Device::by_node(node).into_iter().collect();
        }
        // On old kernels all devices share one inode, so several files can match the mapping's.
        let same = self.open.iter().filter(|(file, _)| *file == vma.file);
        let same: Vec<_> = same.map(|(_, device)| device.clone()).collect();
        let unnamed = same.is_empty() || same.contains(&None);
        let mut candidates: Vec<_> = same.into_iter().flatten().collect();
        if unnamed {
            candidates.extend(self.in_groups.iter().cloned());
        }
        candidates.sort_by(|one, other| one.name.cmp(&other.name));
        candidates.dedup_by(|one, other| one.name == other.name);
        candidates
    }
}

/// The devices of a group that are bound to VFIO drivers: functions, and mediated devices, which have groups of their
/// own.
fn in_group(group: u32) -> Vec<Device> {
    members(&Path::new("/sys/kernel/iommu_groups").join(group.to_string()))
}

fn members(group: &Path) -> Vec<Device> {
    let devices = group.join("devices");
    let names = names(&devices);
    let found = names.iter().filter_map(|name| {
        let function = name.parse::<Address>().ok().map(Function::at);
        match function {
            Some(function) => function.ok().filter(by_vfio).as_ref().map(Device::from),
            None => Device::at(&devices.join(name)),
        }
    });
    found.collect()
}

/// Whether a function is bound to a VFIO driver. A group can also contain bridges and unbound functions.
fn by_vfio(function: &Function) -> bool {
    let driver = function.driver().ok().flatten();
    driver.is_some_and(|driver| is_vfio(&driver))
}

impl Device {
    /// The driver that it is bound to, if known.
    pub(crate) fn driver(&self) -> Option<&str> {
        self.driver.as_deref()
    }
}

impl From<&Function> for Device {
    fn from(function: &Function) -> Self {
        Self {
            name: function.address().to_string(),
            driver: function.driver().ok().flatten(),
            bars: function.bars().unwrap_or_default(),
        }
    }
}

impl Device {
    /// The device at a path in sysfs.
    fn at(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let function = name.parse::<Address>().ok().map(Function::at);
        Some(match function {
            Some(Ok(function)) => Self::from(&function),
            _ => Self {
                name: name.to_owned(),
                driver: driver(path),
                bars: [None; 6],
            },
        })
    }

    /// The device of a device file, such as `vfio0`.
    fn by_node(node: &str) -> Option<Self> {
        let device = Path::new("/sys/class/vfio-dev").join(node).join("device");
        Self::at(&device.canonicalize().ok()?)
    }

    /// Whether a mapping fits into this device.
    pub(crate) fn fits(&self, vma: &Vma, host: Host) -> bool {
        self.place(vma, host).is_some()
    }

    /// Where in this device a mapping would lie. The offset is read as a file offset or as a physical address: first as
    /// the one that this kernel is known to show, then as the other. `None` if it fits into no BAR.
    fn place(&self, vma: &Vma, host: Host) -> Option<Place> {
        let region = self.by_region(vma, host.page);
        let physical = self.by_physical(vma, host.page);
        if host.kernel.file_offsets_in_maps() == Some(false) {
            physical.or(region)
        } else {
            region.or(physical)
        }
    }

    fn by_region(&self, vma: &Vma, page: u64) -> Option<Place> {
        let (region, offset) = split(vma.offset);
        let bar = (*self.bars.get(region as usize)?)?;
        let place = Place {
            region,
            offset,
            physical: bar.start.checked_add(offset),
        };
        fits(bar, offset, vma.size, page).then_some(place)
    }

    fn by_physical(&self, vma: &Vma, page: u64) -> Option<Place> {
        (0..).zip(self.bars).find_map(|(region, bar)| {
            let bar = bar?;
            let offset = vma.offset.checked_sub(bar.start)?;
            let place = Place {
                region,
                offset,
                physical: Some(vma.offset),
            };
            fits(bar, offset, vma.size, page).then_some(place)
        })
    }
}

/// The driver of a device that is not a PCI function.
fn driver(device: &Path) -> Option<String> {
    let link = std::fs::read_link(device.join("driver")).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

impl Place {
    /// Region and offset from the file offset alone, if this kernel is known to show file offsets.
    fn encoded(vma: &Vma, kernel: Features) -> Option<Self> {
        let (region, offset) = split(vma.offset);
        let place = Self {
            region,
            offset,
            physical: None,
        };
        (kernel.file_offsets_in_maps() == Some(true)).then_some(place)
    }
}

fn split(offset: u64) -> (u32, u64) {
    let region = u32::try_from(offset >> REGION_SHIFT).unwrap_or(u32::MAX);
    (region, offset & ((1 << REGION_SHIFT) - 1))
}

/// A BAR smaller than a page is mapped as a whole page (`vfio_pci_core_mmap` rounds its length up).
fn fits(bar: Bar, offset: u64, size: u64, page: u64) -> bool {
    let end = offset.checked_add(size);
    let mapped = bar.size.checked_next_multiple_of(page);
    end.zip(mapped).is_some_and(|(end, mapped)| end <= mapped)
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
