//! Bad input and unprepared hosts: exit status 2 and one clear line each, nothing left behind.

use hugebar_lab::{Command, Output, Spec};

use crate::report::{ErrorReport, Report, machine, map, map_json};
use crate::schema;

/// Checks for status 2, one line on stderr that contains all `words`, and nothing on stdout.
fn assert_refused(output: &Output, words: &[&str]) {
    let line = output.stderr();
    assert_eq!(output.code(), 2, "{output:?}");
    assert_eq!(line.lines().count(), 1, "one line: {line}");
    assert_eq!(output.stdout(), "", "{output:?}");
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
}

/// Runs commands that must each be refused with some words, and then one that must
/// succeed.
fn refused(spec: &Spec, cases: &[(Command, &[&str])], at_last: Option<Command>) {
    let mut commands: Vec<_> = cases.iter().map(|(command, _)| command.clone()).collect();
    commands.extend(at_last);
    let report = spec.run(&commands).unwrap();
    for ((_, words), output) in cases.iter().zip(&report.commands) {
        assert_refused(output, words);
    }
    for last in report.commands.iter().skip(cases.len()) {
        assert_eq!(
            Report::region(last).verdict,
            "optimal",
            "nothing was left behind"
        );
    }
}

#[test]
fn wrong_devices_bars_and_holes() {
    let spec = machine("newest")
        .device("pci-testdev,membar=4G")
        .device("pci-testdev,membar=256M");
    let cases: &[(Command, &[&str])] = &[
        (map("0000:00:1e.7"), &["0000:00:1e.7", "no such PCI device"]),
        (map("ffff:ff:1f.7"), &["ffff:ff:1f.7", "no such PCI device"]),
        (map("gpu0"), &["gpu0", "not a PCI address", "0000:01:00.0"]),
        (
            map("dead:beef"),
            &["dead:beef", "no PCI device has these IDs"],
        ),
        (
            map("1b36:0005"),
            &["2 PCI devices", "0000:00:10.0, 0000:00:11.0"],
        ),
        (
            map("/sys/no/such/device"),
            &["/sys/no/such/device", "No such file"],
        ),
        (
            map("/dev/vfio/devices/vfio9"),
            &["/dev/vfio/devices/vfio9", "No such file"],
        ),
        (
            map("0000:00:10.0 --bar 1"),
            &["0000:00:10.0 BAR 1", "no mapping"],
        ),
        (
            map("0000:00:10.0 --bar 4"),
            &["0000:00:10.0 BAR 4", "no such region"],
        ),
        (
            map("0000:00:10.0 --bar 2 --exclude 4G+4K"),
            &["0x100000000+0x1000", "4 GiB"],
        ),
        (map("0000:00:10.0 --bar 2 --exclude 0+0"), &["empty"]),
        (
            map("0000:00:10.0 --bar 2 --exclude 0xffffffffffffffff+0x10"),
            &["0xffffffffffffffff+0x10", "does not lie"],
        ),
        (
            map("0000:00:10.0 --bar 2 --exclude 0+4G"),
            &["nothing of the region"],
        ),
        (
            map("0000:00:10.0 --exclude 0x6000+0x1000"),
            &["--exclude", "--bar", "0, 2"],
        ),
        (
            map("0000:00:10.0 --bar 2 --require 8K"),
            &["8 KiB", "4 KiB, 2 MiB, 1 GiB"],
        ),
        (
            map("0000:00:10.0").uid(1000),
            &["Permission denied", "/dev/vfio/"],
        ),
    ];
    refused(&spec, cases, Some(map_json("0000:00:10.0 --bar 2")));
}

#[test]
fn wrong_usage_and_json() {
    let commands = [
        map("0000:00:10.0 --bar 2 --exclude 0x6000"),
        map("0000:00:10.0 --bar 7"),
        map_json("0000:00:10.0 --placement best"),
        map_json("0000:00:1e.7"),
        Command::new(["hugebar", "--version"]),
        map("0000:00:10.0 --placment plain"),
        map_json(""),
        map("one two -- --json"),
        Command::new(["hugebar"]),
        map("0000:00:10.0 --bar 2 -v --json"),
    ];
    let report = machine("newest").run(&commands).unwrap();
    let [
        hole,
        bar,
        usage,
        device,
        version,
        misspelt,
        none,
        several,
        bare,
        verbose,
    ] = &report.commands[..]
    else {
        panic!("{report:?}");
    };
    assert_refused(hole, &["OFFSET+SIZE"]);
    assert_refused(bar, &["--bar", "0 to 5"]);
    assert_refused(misspelt, &["--placment", "--placement"]);
    assert_refused(several, &["two"]);
    assert!(ErrorReport::of(none).error.message.contains("<DEV>"));
    assert_eq!(none.stderr().lines().count(), 1, "{none:?}");
    assert_eq!(bare.code(), 2);
    assert!(bare.stderr().contains("Usage: hugebar"), "{bare:?}");
    let usage = ErrorReport::of(usage).error;
    assert_eq!(usage.kind, "usage");
    assert!(usage.message.contains("best"), "{usage:?}");
    assert_eq!(ErrorReport::of(device).error.kind, "not-found");
    assert_eq!(device.code(), 2);
    assert!(version.success() && version.stdout().starts_with("hugebar "));
    // Steps go to stderr, so that the report stays JSON.
    assert_eq!(Report::parse(verbose).regions[0].verdict, "optimal");
    for step in ["opened by type1", "reserved 4 GiB", "populating by type1"] {
        assert!(verbose.stderr().contains(step), "{verbose:?}");
    }
}

#[test]
fn not_bound_to_vfio_pci() {
    let spec = machine("newest")
        .no_bind()
        .qemu("-drive if=none,id=disk,file.driver=null-co,file.size=1M,format=raw")
        .device("pci-testdev,membar=4G")
        .device("nvme,serial=x,drive=disk");
    let cases: &[(Command, &[&str])] = &[
        (
            map("0000:00:10.0"),
            &["0000:00:10.0", "bound to no driver", "drivers_probe"],
        ),
        (
            map("0000:00:11.0"),
            &["0000:00:11.0", "bound to nvme", "drivers_probe"],
        ),
    ];
    refused(&spec, cases, None);
}

/// Two functions of one device share a group; the other one is bound to its own driver.
#[test]
fn group_not_viable() {
    let spec = machine("newest")
        .no_bind()
        .qemu("-drive if=none,id=disk,file.driver=null-co,file.size=1M,format=raw")
        .device("pci-testdev,membar=4G,addr=10.0,multifunction=on")
        .device("nvme,serial=x,drive=disk,addr=10.1");
    let report = spec
        .run(&[
            Command::new(["@bind", "0000:00:10.0", "vfio-pci"]),
            map("0000:00:10.0"),
            Command::new(["@bind", "0000:00:10.1", "vfio-pci"]),
            map_json("0000:00:10.0 --bar 2"),
        ])
        .unwrap();
    let words = [
        "0000:00:10.0",
        "not viable",
        "0000:00:10.1 is bound to nvme",
    ];
    assert_refused(&report.commands[1], &words);
    assert_eq!(Report::region(&report.commands[3]).verdict, "optimal");
}

#[test]
fn iommu_off() {
    let spec = machine("newest").append("intel_iommu=off").no_bind();
    let words: &[&str] = &["0000:00:10.0", "no IOMMU group", "intel_iommu=on"];
    refused(&spec, &[(map("0000:00:10.0"), words)], None);
}

#[test]
fn no_interrupt_remapping() {
    let spec = machine("newest").append("intremap=off");
    let words: &[&str] = &["VFIO_SET_IOMMU", "not permitted", "interrupt remapping"];
    refused(&spec, &[(map("0000:00:10.0"), words)], None);
}

/// `--hold` keeps the device until a signal; no other process can open it before, any can afterwards.
#[test]
fn held_by_another_process() {
    let report = machine("newest")
        .run(&[
            map("0000:00:10.0 --bar 2 --hold").background("optimal"),
            map("0000:00:10.0"),
            Command::new(["@cat", "/proc/{pid:0}/maps"]),
            Command::new(["@signal", "0", "15"]),
            Command::new(["@wait", "0"]),
            map_json("0000:00:10.0 --bar 2"),
        ])
        .unwrap();
    let [held, busy, maps, .., again] = &report.commands[..] else {
        panic!("{report:?}");
    };
    assert_refused(busy, &["busy", "another process"]);
    assert!(
        maps.stdout().contains("vfio"),
        "mapped while it is held: {maps:?}"
    );
    assert!(held.success(), "{held:?}");
    assert_eq!(Report::region(again).verdict, "optimal");
}

/// A signal stops a count or a measurement between two steps, and the device is free at once.
#[test]
fn stopped_half_way() {
    let measure = "hugebar bench 0000:00:10.0 --rounds 1000 --budget 1000000 --json -v";
    let report = machine("newest")
        .device("pci-testdev,membar=16G")
        .run(&[
            // Four million pages, at any addresses.
            map("0000:00:10.0 --bar 2 --hint refuse --limit none -v").background("populating by"),
            Command::new(["@signal", "0", "2"]),
            Command::new(["@wait", "0"]),
            map_json("0000:00:10.0 --bar 2"),
            Command::new(measure.split(' ')).background("measuring 0000:00:10.0"),
            Command::new(["@signal", "4", "2"]),
            Command::new(["@wait", "4"]),
            map_json("0000:00:10.0 --bar 2"),
        ])
        .unwrap();
    for (index, begin) in [(0, "hugebar: "), (4, "warning: ")] {
        let stopped = &report.commands[index];
        assert_eq!(stopped.code(), 2, "{stopped:?}");
        let stderr = stopped.stderr();
        let last = stderr.lines().next_back().unwrap_or_default();
        assert!(
            last.starts_with(begin) && last.contains("stopped"),
            "{stopped:?}"
        );
    }
    let measured = schema::document(&report.commands[4], "bench");
    assert_eq!(measured["stopped"], true, "{measured}");
    let series = &measured["bars"][0]["series"];
    assert_eq!(series[0]["left_out"], "stopped", "{measured}");
    for again in [&report.commands[3], &report.commands[7]] {
        assert_eq!(Report::region(again).verdict, "optimal");
    }
}
