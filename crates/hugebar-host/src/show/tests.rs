use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hugebar::facts::ThpDisabled;
use hugebar::leaf::{GIB, LeafSizes, MIB};
use hugebar::plan::Placement;

use super::*;

const ZERO: &str = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";

/// A tree like sysfs: a root port, a GPU and its audio function behind it, both in group 12, with an IOMMU of 39 bits.
struct Recorded(tempfile::TempDir);

impl Recorded {
    fn new() -> Self {
        let own = Self(tempfile::tempdir().unwrap());
        let port = "0x0000380000000000 0x000038001fffffff 0x0000000000102201\n";
        let port = [&ZERO.repeat(9), port].concat();
        own.function("pci0000:00/0000:00:01.0", "0x060400", &port);
        let gpu = "0x0000380000000000 0x000038000fffffff 0x000000000014220c\n";
        let gpu = [gpu, &ZERO.repeat(5)].concat();
        own.function("pci0000:00/0000:00:01.0/0000:01:00.0", "0x030200", &gpu);
        let audio = "0x0000380010000000 0x0000380010003fff 0x000000000014220c\n";
        let audio = [audio, &ZERO.repeat(5)].concat();
        own.function("pci0000:00/0000:00:01.0/0000:01:00.1", "0x040300", &audio);
        own.write("0000:01:00.0", "resource0_resize", "0000000000003f00\n");
        let iommu = own.path("dmar0");
        fs::create_dir_all(iommu.join("intel-iommu")).unwrap();
        fs::write(iommu.join("intel-iommu/cap"), "1c0000c40660462\n").unwrap();
        symlink(&iommu, own.device("0000:01:00.0").join("iommu")).unwrap();
        let group = own.path("groups/12");
        fs::create_dir_all(group.join("devices")).unwrap();
        fs::write(
            group.join("reserved_regions"),
            "0x00000000fee00000 0x00000000feefffff msi\n",
        )
        .unwrap();
        for address in ["0000:01:00.0", "0000:01:00.1"] {
            symlink(own.device(address), group.join("devices").join(address)).unwrap();
            symlink(&group, own.device(address).join("iommu_group")).unwrap();
        }
        own
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn device(&self, address: &str) -> PathBuf {
        self.path("bus").join(address)
    }

    fn function(&self, path: &str, class: &str, resource: &str) {
        let folder = self.path(path);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("class"), class).unwrap();
        fs::write(folder.join("resource"), resource).unwrap();
        // What users without privilege can read, with a list of capabilities.
        let mut header = [0; 64];
        header[0x06] = 0x10;
        header[0x34] = 0x40;
        fs::write(folder.join("config"), header).unwrap();
        let name = Path::new(path).file_name().unwrap();
        fs::create_dir_all(self.path("bus")).unwrap();
        symlink(&folder, self.path("bus").join(name)).unwrap();
    }

    fn write(&self, address: &str, name: &str, content: &str) {
        fs::write(self.device(address).join(name), content).unwrap();
    }

    fn show(&self) -> Shown {
        self.show_with(&facts())
    }

    fn show_with(&self, facts: &Facts) -> Shown {
        let address = "01:00.0".parse().unwrap();
        let function = Function::listed_in(&self.path("bus"), address).unwrap();
        show(&function, facts, &PciIds::default(), &Iomem::default()).unwrap()
    }
}

fn facts() -> Facts {
    let mut facts = Facts::observe();
    facts.release = "7.3.4".to_owned();
    facts.leaf_sizes = LeafSizes::X86_64;
    facts.thp_disabled = ThpDisabled::No;
    facts
}

#[test]
fn the_window_that_pins_a_bar_and_who_else_is_in_it() {
    let recorded = Recorded::new();
    let shown = recorded.show();
    let bar = &shown.bars[0];
    let sizes: Vec<_> = (8..14).map(|power| MIB << power).collect();
    assert_eq!(bar.sizes, Known::Yes(sizes));
    let growth = bar.growth.as_ref().unwrap();
    assert_eq!(growth.bridge, "00:01.0".parse().unwrap());
    assert_eq!(growth.window, 512 * MIB);
    let audio = Neighbour {
        address: "01:00.1".parse().unwrap(),
        bar: 0,
        size: 0x4000,
    };
    assert_eq!(growth.others, [audio]);
    let removes = "echo 1 > /sys/bus/pci/devices/0000:01:00.1/remove";
    assert!(growth.remedy.contains(removes), "{}", growth.remedy);

    // Alone in the window, it can be resized if there is room above.
    recorded.write("0000:01:00.1", "resource", &ZERO.repeat(6));
    let growth = recorded.show().bars[0].growth.clone().unwrap();
    assert_eq!((growth.others.len(), &*growth.remedy), (0, doctor::NO_ROOM));

    // A BAR of the port itself cannot be taken away without the device. A window that is large enough pins nothing.
    let large = "0x0000380000000000 0x00003803ffffffff 0x0000000000102201\n";
    let resource = [&ZERO.repeat(9), large].concat();
    recorded.write("0000:00:01.0", "resource", &resource);
    assert_eq!(recorded.show().bars[0].growth, None);
}

/// As on cards with a switch of their own.
#[test]
fn a_bridge_above_the_device_cannot_be_taken_away() {
    let recorded = Recorded::new();
    let gpu = recorded.path("pci0000:00/0000:00:01.0/0000:01:00.0");
    let below = recorded.path("pci0000:00/0000:00:01.0/0000:02:00.0");
    recorded.write("0000:01:00.1", "resource", &ZERO.repeat(6));
    // The upstream port of a switch, with a BAR of its own, between port and GPU.
    let bar = "0x0000380010000000 0x00003800107fffff 0x000000000014220c\n";
    let window = "0x0000380000000000 0x000038000fffffff 0x0000000000102201\n";
    let resource = [bar, &ZERO.repeat(8), window].concat();
    recorded.function(
        "pci0000:00/0000:00:01.0/0000:02:00.0",
        "0x060400",
        &resource,
    );
    fs::rename(&gpu, below.join("0000:01:00.0")).unwrap();
    fs::remove_file(recorded.device("0000:01:00.0")).unwrap();
    symlink(below.join("0000:01:00.0"), recorded.device("0000:01:00.0")).unwrap();
    let growth = recorded.show().bars[0].growth.clone().unwrap();
    assert_eq!(
        growth.bridge,
        "00:01.0".parse().unwrap(),
        "the switch itself can grow"
    );
    assert_eq!(growth.others[0].address, "02:00.0".parse().unwrap());
    assert_eq!(growth.remedy, doctor::NO_ROOM);
}

#[test]
fn group_iommu_and_what_needs_privilege() {
    let shown = Recorded::new().show();
    let members: Vec<_> = shown.members.iter().map(|own| own.address).collect();
    assert_eq!(members, ["01:00.1".parse().unwrap()]);
    assert_eq!(shown.described.group, Some(12));
    let iommu = shown.iommu.unwrap();
    assert_eq!((iommu.name.as_str(), iommu.bits), ("dmar0", Some(39)));
    // 256 MiB, at 256 MiB at least.
    assert_eq!(shown.guest_bits, Some(29));
    assert_eq!(shown.msix, Known::NeedsRoot);
    assert_eq!(shown.reserved, Known::Yes(Vec::new()));
}

#[test]
fn costs_on_this_kernel() {
    let recorded = Recorded::new();
    let totals = |facts: &Facts| {
        let shown = recorded.show_with(facts);
        let costs = shown.bars[0].costs.iter();
        let costs = costs.map(|own| (own.cost.best.total(), own.cost.worst.total()));
        costs.collect::<Vec<_>>()
    };
    let mut facts = facts();
    assert_eq!(totals(&facts), [(128, 128), (128, 128), (128, 65_536)]);
    facts.thp_disabled = ThpDisabled::ExceptAdvised;
    assert_eq!(
        totals(&facts),
        [(128, 128), (65_536, 65_536), (65_536, 65_536)]
    );
    facts.thp_disabled = ThpDisabled::Yes;
    assert_eq!(totals(&facts)[0], (65_536, 65_536));
    facts.thp_disabled = ThpDisabled::No;
    facts.release = "6.1.192".to_owned();
    assert_eq!(totals(&facts)[0], (65_536, 65_536));
    let shown = recorded.show_with(&facts);
    assert_eq!(shown.bars[0].costs[0].placement, Placement::Congruent);
}

#[test]
fn a_guest_needs_twice_the_size() {
    let bits = |size| {
        let line = format!("{:#x} {:#x} 0x14220c", 0, size - 1);
        guest_bits(&Resource::parse(&line).unwrap().unwrap())
    };
    assert_eq!(bits(128 * GIB), Some(38));
    assert_eq!(bits(0x2F_00F0_0000), Some(39));
    assert_eq!(bits(2), Some(2));
}

#[test]
fn a_device_that_is_off_is_left_alone() {
    let recorded = Recorded::new();
    recorded.write("0000:01:00.0", "power_state", "D3cold\n");
    let shown = recorded.show();
    assert!(matches!(shown.msix, Known::No(_)), "{:?}", shown.msix);
    assert!(matches!(shown.bars[0].sizes, Known::No(_)));
}
