//! Which device mappings are of.

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
    Device {
        name: name.to_owned(),
        driver: Some("vfio-pci".to_owned()),
        bars,
    }
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
    let device = group.path().join("devices").join(UUID);
    std::fs::create_dir_all(&device).unwrap();
    let drivers = "../../../../bus/mdev/drivers";
    let link = Path::new(drivers).join("nvidia-vgpu-vfio");
    std::os::unix::fs::symlink(link, device.join("driver")).unwrap();
    let found = Device::at(Path::new(&path)).unwrap();
    let members = members(group.path());
    for one in members.iter().chain([&found]) {
        assert_eq!(one.name, UUID);
        assert_eq!(one.bars, [None; 6], "its regions are not its parent's");
    }
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].driver(), Some("nvidia-vgpu-vfio"));
    assert_eq!(found.driver(), None, "it is not there");
}

/// Whichever of several devices a mapping is of, so much is known of it.
#[test]
fn who_handles_faults_is_known_by_the_drivers() {
    let bound = |name: &str, driver: &str| Device {
        driver: Some(driver.to_owned()),
        ..device(name, GIB, GIB)
    };
    let resolved = |drivers: &[&str], vma: &Vma, release| {
        let in_groups = drivers.iter().zip(["one", "other"]);
        let devices = OpenDevices {
            open: vec![(file(7), None)],
            in_groups: in_groups
                .map(|(driver, name)| bound(name, driver))
                .collect(),
        };
        devices.resolve(vma, host(release, 4 * KIB))
    };
    let bar = mapped(2 << 40, GIB, 7);
    for (drivers, faults) in [
        (&["vfio-pci"][..], Faults::VfioPci),
        (&["vfio-pci", "vfio-pci"], Faults::VfioPci),
        (&["vfio-pci", "mlx5_vfio_pci"], Faults::ByCore),
        (&["vfio-pci", "some-vfio"], Faults::Own),
    ] {
        let resolved = resolved(drivers, &bar, NEW);
        assert_eq!(
            (resolved.faults, resolved.in_bar),
            (faults, true),
            "{drivers:?}"
        );
    }
    // Nothing in sysfs that it lies in.
    let region = mapped(9 << 40, GIB, 7);
    let own = resolved(&["vfio-pci"], &region, NEW);
    assert_eq!((own.faults, own.in_bar), (Faults::VfioPci, false));
    assert_eq!(own.place.map(|place| place.region), Some(9));
    let nobody = resolved(&[], &bar, NEW);
    assert_eq!((nobody.faults, nobody.in_bar), (Faults::Own, false));
    // `maps` shows where the GPU's memory is, which is no region.
    let memory = mapped(0x4200_0000_0000, GIB, 7);
    let gpu = resolved(&["nvgrace_gpu_vfio_pci"], &memory, "6.18.15");
    assert_eq!((gpu.faults, gpu.place), (Faults::BasePages, None));
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
