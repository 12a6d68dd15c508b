//! Which device, region and offset a mapping in another process is of.

use std::path::Path;

use hugebar::facts::{Facts, Features};
use hugebar::pci::{Address, Bar, Function};
use hugebar::vfio::is_vfio;

use super::held::{FileKind, OpenFile, Vma};
use super::nodes::Node;
use crate::procfs::FileId;
use crate::sysfs::names;

/// Bits of a file offset below the number of the region (`VFIO_PCI_OFFSET_SHIFT`).
const REGION_SHIFT: u32 = 40;

/// What decides how a mapping of a device looks on this host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    kernel: Features,
    /// Bytes of a page: nothing smaller is mapped.
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
    /// Its device files, and which device that is where it can be told.
    open: Vec<(FileId, Option<Device>)>,
    /// The devices of its open IOMMU groups.
    in_groups: Vec<Device>,
}

/// A device that could be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// Its PCI address, or the name that a mediated device has in sysfs.
    pub(crate) name: String,
    /// BARs of the function; none of a mediated device, whose regions are not its parent's.
    bars: [Option<Bar>; 6],
}

/// What a mapping is of, as far as it can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Exactly one, where that is certain.
    pub(crate) devices: Vec<Device>,
    pub(crate) place: Option<Place>,
}

/// Where in a device a mapping begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) region: u32,
    pub(crate) offset: u64,
    /// Physical address; `None` of a region that is no BAR in sysfs.
    pub(crate) physical: Option<u64>,
}

#[cfg(test)]
impl Resolved {
    /// Of a device that nothing but its name is known of.
    pub(crate) fn test(name: &str, place: Place) -> Self {
        let device = Device {
            name: name.to_owned(),
            bars: [None; 6],
        };
        Self {
            devices: vec![device],
            place: Some(place),
        }
    }
}

impl OpenDevices {
    /// The devices of what a process has open.
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

    /// Which device, region and offset a mapping is of.
    pub(crate) fn resolve(&self, vma: &Vma, host: Host) -> Resolved {
        let mut candidates = self.candidates(vma);
        let fitting = |device: &Device| device.fits(vma, host);
        if candidates.len() > 1 {
            // On old kernels the physical address decides, on others often the size.
            candidates.retain(fitting);
        }
        let place = match candidates.as_slice() {
            [only] => only.place(vma, host),
            _ => None,
        };
        Resolved {
            place: place.or_else(|| Place::encoded(vma, host.kernel)),
            devices: candidates,
        }
    }

    fn candidates(&self, vma: &Vma) -> Vec<Device> {
        if let Some(node) = &vma.node {
            return Device::by_node(node).into_iter().collect();
        }
        // Old kernels have one inode for all devices, so several files can have the mapping's.
        let same = self.open.iter().filter(|(file, _)| *file == vma.file);
        let same: Vec<_> = same.map(|(_, device)| device.clone()).collect();
        let unnamed = same.is_empty() || same.contains(&None);
        let mut candidates: Vec<_> = same.into_iter().flatten().collect();
        if unnamed {
            candidates.extend(self.in_groups.iter().cloned());
        }
        candidates.sort_by(|one, other| one.name.cmp(&other.name));
        candidates.dedup();
        candidates
    }
}

/// The devices of a group that VFIO has: functions, and mediated devices, which are in groups of their own.
fn in_group(group: u32) -> Vec<Device> {
    members(&Path::new("/sys/kernel/iommu_groups").join(group.to_string()))
}

fn members(group: &Path) -> Vec<Device> {
    let names = names(group.join("devices"));
    let devices = names.iter().filter_map(|name| {
        let function = name.parse::<Address>().ok().map(Function::at);
        match function {
            Some(function) => function.ok().filter(by_vfio).as_ref().map(Device::from),
            None => Device::at(Path::new(name)),
        }
    });
    devices.collect()
}

/// Whether VFIO has a function: a group can have bridges and idle functions too.
fn by_vfio(function: &Function) -> bool {
    let driver = function.driver().ok().flatten();
    driver.is_some_and(|driver| is_vfio(&driver))
}

impl From<&Function> for Device {
    fn from(function: &Function) -> Self {
        Self {
            name: function.address().to_string(),
            bars: function.bars().unwrap_or_default(),
        }
    }
}

impl Device {
    /// The device of a path in sysfs that is a device's own.
    fn at(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let function = name.parse::<Address>().ok().map(Function::at);
        Some(match function {
            Some(Ok(function)) => Self::from(&function),
            _ => Self {
                name: name.to_owned(),
                bars: [None; 6],
            },
        })
    }

    /// The device of a node, such as `vfio0`.
    fn by_node(node: &str) -> Option<Self> {
        let device = Path::new("/sys/class/vfio-dev").join(node).join("device");
        Self::at(&device.canonicalize().ok()?)
    }

    /// Whether a mapping could be of this device, by where it would lie.
    pub(crate) fn fits(&self, vma: &Vma, host: Host) -> bool {
        self.place(vma, host).is_some()
    }

    /// Where in this device a mapping would lie, by a file offset or a physical address: by the one that this
    /// kernel shows, where that is known, and the other one otherwise. `None` where it fits in no BAR.
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

impl Place {
    /// What the offset says by itself, where it is known to be one.
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

/// A BAR below a page is mapped as a page (`vfio_pci_core_mmap` rounds its length up).
fn fits(bar: Bar, offset: u64, size: u64, page: u64) -> bool {
    let end = offset.checked_add(size);
    let mapped = bar.size.checked_next_multiple_of(page);
    end.zip(mapped).is_some_and(|(end, mapped)| end <= mapped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hugebar::leaf::{GIB, KIB, MIB};

    const NEW: &str = "7.3.4";
    const OLD: &str = "6.1.0";

    fn host(release: &str, page: u64) -> Host {
        let kernel = Features::of(release);
        Host { kernel, page }
    }

    fn device(name: &str, start: u64, size: u64) -> Device {
        let mut bars = [None; 6];
        bars[2] = Some(Bar { start, size });
        let name = name.to_owned();
        Device { name, bars }
    }

    fn file(inode: u64) -> FileId {
        let device = (0, 14);
        FileId { device, inode }
    }

    fn mapped(offset: u64, size: u64, inode: u64) -> Vma {
        Vma {
            start: 0x7f00_0000_0000,
            size,
            offset,
            file: file(inode),
            node: None,
        }
    }

    fn names(resolved: &Resolved) -> Vec<&str> {
        resolved
            .devices
            .iter()
            .map(|device| device.name.as_str())
            .collect()
    }

    #[test]
    fn a_mediated_device_is_not_its_parent() {
        const UUID: &str = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
        let path = format!("/sys/devices/pci0000:00/0000:03:00.0/{UUID}");
        let group = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(group.path().join("devices").join(UUID)).unwrap();
        let found = [Device::at(Path::new(&path)).unwrap()];
        for one in found.iter().chain(&members(group.path())) {
            assert_eq!(one.name, UUID);
            assert_eq!(one.bars, [None; 6], "its regions are not its parent's");
        }
        assert_eq!(members(group.path()), found);
    }

    #[test]
    fn the_inode_names_the_device() {
        let (one, other) = (device("one", GIB, GIB), device("other", 4 * GIB, GIB));
        let devices = OpenDevices {
            open: vec![(file(7), Some(one)), (file(8), Some(other))],
            in_groups: Vec::new(),
        };
        let resolved = devices.resolve(&mapped((2 << 40) + 0x7000, 0x1000, 8), host(NEW, 4 * KIB));
        assert_eq!(names(&resolved), ["other"]);
        let place = Place {
            region: 2,
            offset: 0x7000,
            physical: Some(4 * GIB + 0x7000),
        };
        assert_eq!(resolved.place, Some(place));
    }

    #[test]
    fn one_inode_for_all_is_told_apart_by_the_physical_address() {
        let (one, other) = (device("one", GIB, GIB), device("other", 4 * GIB, GIB));
        let devices = OpenDevices {
            open: vec![(file(7), None), (file(7), None)],
            in_groups: vec![one, other],
        };
        let resolved = devices.resolve(&mapped(4 * GIB + 0x3000, 0x1000, 7), host(OLD, 4 * KIB));
        assert_eq!(names(&resolved), ["other"]);
        assert_eq!(
            resolved.place.map(|place| (place.region, place.offset)),
            Some((2, 0x3000))
        );
    }

    #[test]
    fn what_cannot_be_told_is_not_guessed() {
        let (one, other) = (device("one", GIB, GIB), device("other", 4 * GIB, GIB));
        let devices = OpenDevices {
            open: vec![(file(7), None)],
            in_groups: vec![one, other],
        };
        let resolved = devices.resolve(&mapped(2 << 40, GIB, 7), host(NEW, 4 * KIB));
        assert_eq!(names(&resolved), ["one", "other"]);
        let place = Place {
            region: 2,
            offset: 0,
            physical: None,
        };
        assert_eq!(resolved.place, Some(place));
        let nobody = OpenDevices::default().resolve(&mapped(GIB, GIB, 7), host(OLD, 4 * KIB));
        assert_eq!((names(&nobody).len(), nobody.place), (0, None));
    }

    /// A BAR of 16 KiB beside a larger one, mapped as a page of this host: it may be either's.
    #[test]
    fn a_bar_below_a_page_is_mapped_as_a_page() {
        let (small, large) = (device("one", GIB, 16 * KIB), device("other", 2 * GIB, MIB));
        let devices = OpenDevices {
            open: vec![(file(7), None)],
            in_groups: vec![small, large],
        };
        for page in [4 * KIB, 16 * KIB, 64 * KIB] {
            let size = page.max(16 * KIB);
            let shown = mapped(2 << 40, size, 7);
            let resolved = devices.resolve(&shown, host(NEW, page));
            assert_eq!(names(&resolved), ["one", "other"], "{page}");
            // Where the kernel shows the physical address, that decides.
            let resolved = devices.resolve(&mapped(GIB, size, 7), host(OLD, page));
            assert_eq!(names(&resolved), ["one"], "{page}");
            let place = resolved.place.unwrap();
            assert_eq!(
                (place.region, place.offset, place.physical),
                (2, 0, Some(GIB))
            );
            // A page more is beyond it.
            let longer = mapped(2 << 40, size + page, 7);
            let resolved = devices.resolve(&longer, host(NEW, page));
            assert_eq!(names(&resolved), ["other"], "{page}");
        }
    }

    #[test]
    fn no_size_that_sysfs_says_overflows() {
        let size = u64::MAX - KIB;
        let bar = Bar { start: 0, size };
        assert!(!fits(bar, 0, size, 64 * KIB));
        assert!(!fits(bar, 1, u64::MAX, 4 * KIB));
    }
}
