//! Resizing on a recorded tree that answers as the kernel does: no emulated device has resizable BARs.

use std::ops::Deref;
use std::path::Path;

use super::super::fake::{DEVICE, Fake, PORT, ZERO, address, set_driver};
use super::*;
use hugebar::pci::Resource;
use rustix::io::Errno;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const BASE: u64 = 0x3800_0000_0000;

fn line(start: u64, size: u64, flags: u64) -> String {
    format!("{start:#018x} {:#018x} {flags:#018x}\n", start + size - 1)
}

/// A GPU with a BAR of 256 MiB that can have up to 8 GiB, and its audio function, behind a port with a window of this size.
struct Host(Fake);

impl Deref for Host {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        &self.0
    }
}

impl Host {
    fn new(window: u64, audio: bool) -> Self {
        let own = Self(Fake::answering(kernel));
        let resource = [ZERO.repeat(9), line(BASE, window, 0x10_2201)].concat();
        own.function(PORT, "0x060400", &resource);
        let resource = [line(BASE, 256 * MIB, 0x14_220c), ZERO.repeat(5)].concat();
        own.function(&format!("{PORT}/{DEVICE}"), "0x030200", &resource);
        if audio {
            let resource = [line(BASE + 256 * MIB, 16 << 10, 0x14_220c), ZERO.repeat(5)].concat();
            own.function(&format!("{PORT}/0000:01:00.1"), "0x040300", &resource);
        }
        own.put("resource0_resize", "0000000000003f00\n");
        own.put("driver_override", "(null)\n");
        for driver in ["gpu", "vfio-pci"] {
            fs::create_dir_all(own.tree().driver(driver)).unwrap();
        }
        own.driver(Some("gpu"));
        own
    }

    fn plan(&self, size: u64) -> Result<Plan, Error> {
        plan(&self.tree(), address(), 0, size, &Options::default())
    }

    /// Driver, size, and what is remembered.
    fn now(&self) -> (Option<String>, u64, Option<Record>) {
        let tree = self.tree();
        let size = set_size::size(&tree, address(), 0).unwrap();
        (
            tree.function(address()).unwrap().driver().unwrap(),
            size.map_or(0, |line| line.size),
            Record::read(&tree, address()).unwrap(),
        )
    }
}

/// Answers a write as Linux 6.18 does, as far as it can be told from its source: `unbind_store`, `bind_store`, and
/// `resourceN_resize` with `pci_resize_resource`.
fn kernel(tree: &Tree, path: &Path, text: &str) -> io::Result<()> {
    let device = tree.device(address());
    let driver = tree.function(address()).unwrap().driver().unwrap();
    match path.file_name().unwrap().to_str().unwrap() {
        "unbind" => set_driver(tree, None),
        "bind" if driver.is_some() => return Err(Errno::BUSY.into()),
        "bind" if device.join("probe_fails").exists() => return Err(Errno::NODEV.into()),
        "bind" => {
            let name = path.parent().unwrap().file_name().unwrap();
            set_driver(tree, name.to_str());
        }
        "driver_override" => fs::write(path, text)?,
        "resource0_resize" => return kernel_resizes(tree, driver, text.parse().unwrap()),
        name => panic!("{name}"),
    }
    Ok(())
}

fn kernel_resizes(tree: &Tree, driver: Option<String>, power: u32) -> io::Result<()> {
    let device = tree.device(address());
    // The process ends here.
    assert!(!device.join("killed").exists(), "killed");
    if driver.is_some() || !crate::sysfs::virtual_functions(&device).is_empty() {
        return Err(Errno::BUSY.into());
    }
    let mask = fs::read_to_string(device.join("resource0_resize")).unwrap();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    if mask >> power & 1 == 0 {
        return Err(Errno::INVAL.into());
    }
    let size = MIB << power;
    let port = tree.function("0000:00:01.0".parse().unwrap()).unwrap();
    let window = port.resources().unwrap()[9].unwrap().size;
    let has_others = tree.device("0000:01:00.1".parse().unwrap()).exists();
    // A window with something else in it is not enlarged. This machine has room for 4 GiB above it.
    let limit = match has_others {
        true => window - MIB,
        false => window.max(4 * GIB),
    };
    let lost = device.join("loses_address").exists();
    if size > limit {
        if lost {
            fs::write(device.join("resource"), ZERO.repeat(6)).unwrap();
        }
        return Err(Errno::NOSPC.into());
    }
    let resource = [line(BASE, size, 0x14_220c), ZERO.repeat(5)].concat();
    fs::write(device.join("resource"), resource)
}

#[test]
fn sizes_and_what_the_window_allows() {
    let found = look(&Host::new(512 * MIB, true).tree(), address(), 0).unwrap();
    assert_eq!(
        (found.size, found.driver.as_deref()),
        (Some(256 * MIB), Some("gpu"))
    );
    let sizes: Vec<_> = found.sizes.iter().map(|own| own.size).collect();
    assert_eq!(
        sizes,
        [256, 512, 1024, 2048, 4096, 8192].map(|size| size * MIB)
    );
    // 512 MiB does not fit beside the audio function.
    assert_eq!(found.sizes[0].narrow, None);
    let narrow = found.sizes[1].narrow.as_ref().unwrap();
    assert_eq!((narrow.window, narrow.others.len()), (512 * MIB, 1));
    let alone = look(&Host::new(512 * MIB, false).tree(), address(), 0).unwrap();
    assert_eq!(alone.sizes[1].narrow, None);
    assert!(alone.sizes[2].narrow.is_some());

    let error = look(&Host::new(GIB, false).tree(), address(), 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    let host = Host::new(GIB, false);
    let error = host.plan(3 * MIB).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(
        error
            .to_string()
            .ends_with("256 MiB, 512 MiB, 1 GiB, 2 GiB, 4 GiB, 8 GiB"),
        "{error}"
    );
    assert_eq!(host.plan(256 * MIB).unwrap().steps, []);
}

#[test]
fn the_driver_lets_go_meanwhile() {
    let host = Host::new(GIB, false);
    let plan = host.plan(4 * GIB).unwrap();
    let lines: Vec<_> = plan.steps.iter().map(Step::to_string).collect();
    let folder = "/sys/bus/pci/devices/0000:01:00.0";
    assert_eq!(
        lines[1..],
        [
            format!("echo {DEVICE} > {folder}/driver/unbind"),
            format!("echo 12 > {folder}/resource0_resize"),
            format!("echo {DEVICE} > /sys/bus/pci/drivers/gpu/bind"),
            format!("rm /run/hugebar/{DEVICE}"),
        ]
    );
    plan.run(|_| ()).unwrap();
    assert_eq!(host.now(), (Some("gpu".to_owned()), 4 * GIB, None));
    // Without a driver there is nothing to put back.
    host.driver(None);
    let plan = host.plan(512 * MIB).unwrap();
    assert_eq!(plan.steps, [Step::Resize(address(), 0, 512 * MIB)]);
    plan.run(|_| ()).unwrap();
    assert_eq!(host.now(), (None, 512 * MIB, None));
}

#[test]
fn a_device_that_bind_has_taken_stays_with_vfio() {
    let host = Host::new(GIB, false);
    host.driver(Some("vfio-pci"));
    let record = Record {
        driver: Some("gpu".to_owned()),
        driver_override: None,
    };
    {
        let _lock = super::super::record::lock(&host.tree()).unwrap();
        record.write(&host.tree(), address()).unwrap();
    }
    host.plan(512 * MIB).unwrap().run(|_| ()).unwrap();
    let vfio = || Some("vfio-pci".to_owned());
    assert_eq!(host.now(), (vfio(), 512 * MIB, Some(record.clone())));
    let error = host.plan(8 * GIB).unwrap().run(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert_eq!(host.now(), (vfio(), 512 * MIB, Some(record)));
}

#[test]
fn a_refusal_changes_nothing_and_names_the_window() {
    let host = Host::new(512 * MIB, true);
    let error = host.plan(GIB).unwrap().run(|_| ()).unwrap_err();
    assert_eq!(
        (error.kind(), error.errno()),
        (ErrorKind::NoSpace, Some(28))
    );
    for words in [
        "0000:00:01.0 has a window of 512 MiB",
        "0000:01:00.1/remove",
    ] {
        assert!(error.to_string().contains(words), "{words:?}: {error}");
    }
    assert_eq!(host.now(), (Some("gpu".to_owned()), 256 * MIB, None));
    // The firmware's window is not the limit, but the room above it.
    let host = Host::new(512 * MIB, false);
    host.plan(4 * GIB).unwrap().run(|_| ()).unwrap();
    host.put("loses_address", "");
    let error = host.plan(8 * GIB).unwrap().run(|_| ()).unwrap_err();
    assert!(error.to_string().contains("lost its address"), "{error}");
    assert_eq!(host.now(), (Some("gpu".to_owned()), 0, None));
}

#[test]
fn what_the_kernels_errors_mean() {
    let host = Host::new(512 * MIB, true);
    let kind = |errno: i32| {
        let error = io::Error::from_raw_os_error(errno);
        let told = set_size::refused(&host.tree(), address(), 0, GIB, "giving", &error);
        assert_eq!(told.errno(), Some(errno));
        (told.kind(), told.remedy().is_some())
    };
    for (errno, expected) in [
        (16, ErrorKind::InUse),
        (22, ErrorKind::InvalidInput),
        (28, ErrorKind::NoSpace),
        (12, ErrorKind::NoSpace),
        // No window that could be enlarged.
        (2, ErrorKind::NoSpace),
        (524, ErrorKind::NotSupported),
        (13, ErrorKind::PermissionDenied),
    ] {
        assert_eq!(kind(errno), (expected, true), "{errno}");
    }
    host.put("resource", &ZERO.repeat(6));
    assert_eq!(kind(2), (ErrorKind::NotSupported, true));
}

#[test]
fn after_a_process_has_ended_in_between_restore_works() {
    let host = Host::new(GIB, false);
    host.put("killed", "");
    let plan = host.plan(GIB).unwrap();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| plan.run(|_| ())));
    assert!(ended.is_err());
    let (driver, size, record) = host.now();
    assert_eq!((driver, size), (None, 256 * MIB));
    assert_eq!(record.unwrap().driver.as_deref(), Some("gpu"));
    let options = Options::default();
    let restore = super::super::binding::restore_in(&host.tree(), address(), &options).unwrap();
    restore.run(|_| ()).unwrap();
    assert_eq!(host.now(), (Some("gpu".to_owned()), 256 * MIB, None));
}

#[test]
fn a_driver_that_does_not_come_back_is_told() {
    let host = Host::new(GIB, false);
    host.put("probe_fails", "");
    let error = host.plan(GIB).unwrap().run(|_| ()).unwrap_err();
    assert!(
        error.to_string().ends_with("hugebar restore 0000:01:00.0"),
        "{error}"
    );
    let (driver, size, record) = host.now();
    assert_eq!((driver, size, record.is_some()), (None, GIB, true));
}

/// Here nothing answers: the file takes the size, and the BAR stays as it is.
#[test]
fn a_size_that_the_bar_does_not_have_afterwards_is_an_error() {
    let host = Host::new(GIB, false);
    host.driver(None);
    let tree = Tree::at(host.root());
    let plan = plan(&tree, address(), 0, GIB, &Options::default()).unwrap();
    let error = plan.run(|_| ()).unwrap_err();
    let told = "the kernel has taken it, but the BAR has 256 MiB";
    assert!(error.to_string().contains(told), "{error}");
    let file = tree.device(address()).join("resource0_resize");
    assert!(fs::read_to_string(file).unwrap().starts_with("10"));
}

#[test]
fn a_device_in_use_is_left_alone() {
    let host = Host::new(GIB, false);
    host.put("boot_vga", "1\n");
    let plan = host.plan(GIB).unwrap();
    let error = plan.run(|_| panic!("nothing may be done")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    let resources = host
        .tree()
        .function(address())
        .unwrap()
        .resources()
        .unwrap();
    assert_eq!(resources[0].map(|own: Resource| own.size), Some(256 * MIB));
}
