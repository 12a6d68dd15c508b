//! Misleading file names in other processes: files are identified by what they are.

use hugebar_lab::Command;

use crate::device::with_exercise;
use crate::inspect::{Report, inspect};
use crate::report::{ErrorReport, map};

const DEVICE: &str = "0000:00:10.0";

fn doctor() -> Command {
    Command::new(["hugebar", "doctor", "--json", DEVICE])
}

/// Plain files at the paths of device files do not count, and device files at other paths do.
fn by_what_they_are(kernel: &str, backend: &str) {
    let jailed = |how: &str| {
        let words = format!("exercise jailed {how}--backend {backend} {DEVICE}");
        Command::new(words.split(' ')).background("mapped")
    };
    let mut posing = Command::new(["exercise", "posing"]).background("posing");
    // The lab kernel has no user namespaces.
    posing.uid = (kernel != "lab").then_some(1000);
    let report = with_exercise(kernel)
        .run(&[
            posing,
            doctor(),
            inspect("--json"),
            inspect("--json").uid(1000),
            map(&format!("{DEVICE} --bar 2 --hold --backend {backend}")).background("BAR 2"),
            inspect("--require 1G"),
            Command::new(["@signal", "4", "15"]),
            Command::new(["@wait", "4"]),
            jailed(""),
            doctor(),
            inspect("--json"),
            Command::new(["@signal", "8", "15"]),
            Command::new(["@wait", "8"]),
            jailed("--close "),
            doctor(),
            inspect("--json"),
        ])
        .unwrap();
    let [
        posing,
        free,
        nothing,
        own,
        _,
        required,
        _,
        _,
        in_jail,
        open,
        opened,
        _,
        _,
        in_jail_closed,
        mapped,
        only_mapped,
    ] = &report.commands[..]
    else {
        panic!("{report:?}");
    };
    assert_eq!(posing.stdout(), "posing\n", "{posing:?}");
    for output in [in_jail, in_jail_closed] {
        assert_eq!(output.stdout(), "mapped\n", "{output:?}");
    }
    assert_eq!(free.code(), 0, "{free:?}");
    assert!(free.stdout().contains("no process has it open"), "{free:?}");
    for output in [nothing, own] {
        assert!(Report::of(output).processes.is_empty(), "{output:?}");
    }
    assert_eq!(required.code(), 0, "{required:?}");

    assert_eq!(open.code(), 1, "{open:?}");
    assert!(open.stdout().contains("(exercise) has it open"), "{open:?}");
    let seen = &Report::of(opened).processes[0].mappings[0];
    assert_eq!(seen.device.as_deref(), Some(DEVICE), "{opened:?}");

    // Opened by group, only a mapping is left, which may be of any device of that size.
    let by_node = backend == "iommufd";
    let words = match by_node {
        true => "(exercise) has it mapped",
        false => "(exercise) has a device mapped",
    };
    assert_eq!(mapped.code(), i32::from(by_node), "{mapped:?}");
    assert!(mapped.stdout().contains(words), "{mapped:?}");
    let seen = &Report::of(only_mapped).processes[0].mappings[0];
    let device = by_node.then_some(DEVICE);
    assert_eq!(seen.device.as_deref(), device, "{only_mapped:?}");
}

#[test]
fn files_are_what_they_are_on_6_12() {
    by_what_they_are("6.12", "type1");
}

#[test]
fn files_are_what_they_are_on_the_newest() {
    by_what_they_are("newest", "type1");
}

#[test]
fn files_are_what_they_are_by_iommufd() {
    by_what_they_are("lab", "iommufd");
}

/// Names that a user may give to the device, and paths that only look like one.
#[test]
fn paths_are_the_devices_own() {
    let sysfs = format!("/sys/bus/pci/devices/{DEVICE}");
    let own = [
        sysfs.clone(),
        format!("{sysfs}/resource2"),
        "/sys/class/vfio-dev/vfio0".to_owned(),
        "/dev/vfio/devices/vfio0".to_owned(),
    ];
    let others = [
        format!("/tmp/{DEVICE}/notes"),
        "/sys/devices/system/cpu/cpu0".to_owned(),
        "/sys/class/tty/ttyS0".to_owned(),
    ];
    let doctor = |path: &String| Command::new(["hugebar", "doctor", "--json", path]);
    let notes = format!("mkdir /tmp/{DEVICE} && echo notes > {}", others[0]);
    let mut commands = vec![Command::new(["sh", "-c", notes.as_str()])];
    commands.extend(own.iter().chain(&others).map(doctor));
    let report = with_exercise("lab")
        .copy("/bin/sh".parse().unwrap())
        .copy("/bin/mkdir".parse().unwrap())
        .run(&commands)
        .unwrap();
    let (made, doctors) = report.commands.split_first().unwrap();
    assert!(made.success(), "{made:?}");
    let (of_own, of_others) = doctors.split_at(own.len());
    for output in of_own {
        assert!(output.success(), "{output:?}");
        let device = format!("\"device\": \"{DEVICE}\"");
        assert!(output.stdout().contains(&device), "{output:?}");
    }
    for output in of_others {
        assert_eq!(output.code(), 2, "{output:?}");
        assert_eq!(ErrorReport::of(output).error.kind, "invalid-input");
    }
}
