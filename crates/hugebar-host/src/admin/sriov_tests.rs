//! Virtual functions in folders that imitate sysfs.

use std::ops::Deref;
use std::os::unix::fs::symlink;

use super::super::fake::{DEVICE, Fake, PORT, ZERO, address};
use super::*;

const OWN: &str = "0x0000380000000000 0x00003800000fffff 0x000000000014220c\n";
/// 4 MiB each for 8.
const PLACED: &str = "0x0000380000400000 0x00003800023fffff 0x000000000014220c\n";
const UNSET: &str = "0x0000000000000000 0x0000000001ffffff 0x000000002014220c\n";

/// A physical function of a driver `ixgbe` for 8 virtual ones, behind a port with a window of 16 MiB or 1 GiB.
struct Host(Fake);

impl Deref for Host {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        &self.0
    }
}

impl Host {
    fn new(of_virtual: &str, window: &str) -> Self {
        let own = Self(Fake::new());
        let window = format!("0x0000380000000000 0x0000{window} 0x0000000000102201\n");
        own.function(PORT, "0x060400", &[&ZERO.repeat(9), &window[..]].concat());
        let resource = [OWN, &ZERO.repeat(6), of_virtual, &ZERO.repeat(5)].concat();
        own.function(&format!("{PORT}/{DEVICE}"), "0x020000", &resource);
        own.put("sriov_totalvfs", "8\n");
        own.put("sriov_numvfs", "0\n");
        own.driver(Some("ixgbe"));
        own
    }

    /// Virtual functions of network cards, as after a write to `sriov_numvfs`.
    fn create(&self, number: u32) {
        for own in 0..number {
            let name = format!("0000:01:10.{own}");
            self.function(&format!("{PORT}/{name}"), "0x020000", &ZERO.repeat(13));
            let folder = self.tree().device(address());
            symlink(format!("../{name}"), folder.join(format!("virtfn{own}"))).unwrap();
            let virtual_function = self.tree().device(name.parse().unwrap());
            symlink("../drivers/ixgbevf", virtual_function.join("driver")).unwrap();
            symlink(folder, virtual_function.join("physfn")).unwrap();
        }
    }

    fn plan(&self, number: u16) -> Result<Plan, Error> {
        plan(&self.tree(), address(), number, &Options::default())
    }

    fn refused(&self, number: u16) -> (ErrorKind, String) {
        let error = self.plan(number).unwrap_err();
        (error.kind(), error.to_string())
    }
}

fn to(number: u16) -> Step {
    Step::VirtualFunctions(address(), number)
}

#[test]
fn numbers_change_by_way_of_0() {
    let host = Host::new(PLACED, "38003fffffff");
    let found = look(&host.tree(), address()).unwrap();
    assert_eq!((found.total, found.functions.len()), (8, 0));
    // Which driver it is keeps the size of each from being known: it may have lowered the number.
    let [bar] = found.bars[..] else {
        panic!("{found:?}")
    };
    assert_eq!((bar.bar, bar.all, bar.each), (0, Some(32 << 20), None));
    assert_eq!(bar.address, Some(0x3800_0040_0000));
    assert_eq!(host.plan(8).unwrap().steps, [to(8)]);
    assert_eq!(host.plan(0).unwrap().steps, []);

    host.create(2);
    let removed = host.plan(0).unwrap();
    assert_eq!(
        (&removed.steps[..], removed.check()),
        (&[to(0)][..], Ok(()))
    );
    assert_eq!(host.plan(2).unwrap().steps, []);
    let more = host.plan(4).unwrap();
    assert_eq!(more.steps, [to(0), to(4)]);
    let refused = more.check().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InUse);
    assert!(
        refused.to_string().contains("hugebar vf 0000:01:00.0 0"),
        "{refused}"
    );
    let options = Options {
        force: true,
        ..Options::default()
    };
    let forced = plan(&host.tree(), address(), 4, &options).unwrap();
    assert_eq!(forced.check(), Ok(()));
    let lines: Vec<_> = forced.steps.iter().map(Step::to_string).collect();
    let file = "/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs";
    assert_eq!(
        lines,
        [format!("echo 0 > {file}"), format!("echo 4 > {file}")]
    );
}

#[test]
fn virtual_functions_in_use_stay() {
    let host = Host::new(PLACED, "38003fffffff");
    host.create(1);
    let interface = host
        .tree()
        .device("0000:01:10.0".parse().unwrap())
        .join("net/eth7");
    fs::create_dir_all(&interface).unwrap();
    symlink("../../../class/net", interface.join("subsystem")).unwrap();
    fs::write(interface.join("flags"), "0x1003\n").unwrap();
    let plan = host.plan(0).unwrap();
    let error = plan.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(
        error.to_string().contains("0000:01:10.0: eth7 is up"),
        "{error}"
    );
    let error = plan.run(|_| panic!("nothing may be done")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    fs::write(interface.join("flags"), "0x1002\n").unwrap();
    assert_eq!(host.plan(0).unwrap().check(), Ok(()));
}

#[test]
fn what_function_and_driver_do_not_allow() {
    let host = Host::new(PLACED, "38003fffffff");
    let (kind, text) = host.refused(9);
    assert_eq!(kind, ErrorKind::InvalidInput);
    assert!(text.contains("8 virtual functions at most"), "{text}");
    host.driver(None);
    assert_eq!(host.refused(1).0, ErrorKind::NotSupported);
    host.driver(Some("vfio-pci"));
    let parameter = host
        .tree()
        .path("sys/module/vfio_pci/parameters/enable_sriov");
    fs::create_dir_all(parameter.parent().unwrap()).unwrap();
    fs::write(&parameter, "N\n").unwrap();
    let (kind, text) = host.refused(1);
    assert_eq!(kind, ErrorKind::NotSupported);
    assert!(text.contains("echo Y > /sys/module/vfio_pci"), "{text}");
    fs::write(&parameter, "Y\n").unwrap();
    assert_eq!(host.plan(1).unwrap().steps, [to(1)]);
    // VFIO lowers no number: the size of each is known without privilege.
    let bar = look(&host.tree(), address()).unwrap().bars[0];
    assert_eq!(bar.each, Some(4 << 20));

    host.create(1);
    let error = look(&host.tree(), "0000:01:10.0".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert!(
        error.to_string().ends_with("hugebar vf 0000:01:00.0"),
        "{error}"
    );
    let error = look(&host.tree(), "0000:00:01.0".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported);
}

#[test]
fn without_room_for_their_bars_the_window_is_named() {
    let host = Host::new(UNSET, "380000ffffff");
    let (kind, text) = host.refused(1);
    assert_eq!(kind, ErrorKind::NoSpace);
    for words in [
        "BAR 0 (32 MiB for all)",
        "bridge 0000:00:01.0 has a window of 16 MiB, shared with 0000:01:00.0 BAR 0 (1 MiB)",
        "echo 1 > /sys/bus/pci/devices/0000:00:01.0/remove; echo 1 > /sys/bus/pci/rescan",
    ] {
        assert!(text.contains(words), "{words:?}: {text}");
    }
    // The window is not what it lacks.
    let host = Host::new(UNSET, "38003fffffff");
    let (kind, text) = host.refused(1);
    assert_eq!(kind, ErrorKind::NoSpace);
    assert!(
        !text.contains("bridge") && text.ends_with(remedy::NO_ADDRESS),
        "{text}"
    );
    assert_eq!(look(&host.tree(), address()).unwrap().narrow, None);
}

#[test]
fn a_number_that_the_kernel_does_not_reach_is_an_error() {
    let host = Host::new(PLACED, "38003fffffff");
    let plan = host.plan(3).unwrap();
    // The file takes the number, but nothing creates functions here.
    let error = plan.run(|_| ()).unwrap_err();
    assert!(error.to_string().contains("it has 0 afterwards"), "{error}");
    let text = fs::read_to_string(host.tree().device(address()).join("sriov_numvfs")).unwrap();
    assert!(text.starts_with('3'), "{text}");
}
