//! `hugebar bind` and `hugebar restore`: devices that are free, in use, and held; and the commands killed in the middle.

use std::path::Path;
use std::process;

use hugebar_lab::{Command, HostFile, Output, Spec};
use serde::Deserialize;
use tempfile::NamedTempFile;

use crate::report::{ErrorReport, machine};
use crate::schema::document;

const DISK: &str = "0000:00:10.0";
const CARD: &str = "0000:00:11.0";
/// Two functions of one slot, and so of one group.
const PAIR: [&str; 2] = ["0000:00:18.0", "0000:00:18.1"];

fn words(text: &str) -> Command {
    Command::new(text.split(' '))
}

fn copied(host: impl AsRef<Path>) -> HostFile {
    HostFile {
        host: host.as_ref().into(),
        guest: None,
    }
}

/// A drive with a file system.
fn drive() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(8 << 20).unwrap();
    let made = process::Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-O", "^has_journal"])
        .arg(file.path())
        .status()
        .unwrap();
    assert!(made.success());
    file
}

/// A machine with an NVMe drive and a virtio network card, both with the kernel's own drivers where it has them.
fn with_drive(kernel: &str, drive: &NamedTempFile) -> Spec {
    let exercise = hugebar_lab::program("hugebar-lab-exercise", "exercise", "dev").unwrap();
    let drive = drive.path().display();
    machine(kernel)
        .no_bind()
        .qemu(&format!("-drive file={drive},if=none,id=disk,format=raw"))
        .device("nvme,serial=x,drive=disk")
        .device("virtio-net-pci,romfile=")
        .device("virtio-net-pci,romfile=,addr=18.0,multifunction=on")
        .device("virtio-net-pci,romfile=,addr=18.1")
        .copy(copied("/usr/bin/mount"))
        .copy(copied("/usr/bin/umount"))
        .copy(copied("/usr/bin/sleep"))
        .copy(copied("/usr/bin/sh"))
        .copy(copied(exercise))
}

/// The error of a command that has refused, which says all of these words.
pub(crate) fn assert_refused(output: &Output, kind: &str, expected: &[&str]) {
    assert_eq!(output.code(), 2, "{output:?}");
    let error = ErrorReport::of(output).error;
    assert_eq!(error.kind, kind, "{output:?}");
    for words in expected {
        assert!(error.message.contains(words), "{words:?}: {output:?}");
    }
}

fn driver(device: &str) -> Command {
    Command::new([
        "@readlink",
        &format!("/sys/bus/pci/devices/{device}/driver"),
    ])
}

fn over(device: &str) -> Command {
    Command::new([
        "@cat",
        &format!("/sys/bus/pci/devices/{device}/driver_override"),
    ])
}

#[derive(Deserialize)]
struct Report {
    version: u32,
    devices: Vec<Changed>,
}

#[derive(Deserialize)]
struct Changed {
    device: String,
    from: Option<String>,
    to: Option<String>,
}

/// Devices with their drivers before and afterwards.
fn assert_changed(output: &Output, expected: &[(&str, Option<&str>, Option<&str>)]) {
    assert!(output.success(), "{output:?}");
    let parsed: Report = serde_json::from_value(document(output, "bind")).unwrap();
    assert_eq!(parsed.version, 1);
    let changed = parsed.devices.iter();
    let changed = changed.map(|own| (own.device.as_str(), own.from.as_deref(), own.to.as_deref()));
    assert_eq!(changed.collect::<Vec<_>>(), expected);
}

#[test]
fn devices_are_taken_unless_they_are_in_use_and_given_back() {
    let drive = drive();
    let bind = |rest: &str| words(&format!("hugebar bind --json {rest}"));
    let restore = |rest: &str| words(&format!("hugebar restore --json {rest}"));
    let report = with_drive("newest", &drive)
        .run(&[
            // Mounted: nothing happens to the other device either.
            words("mount -t ext4 -o ro /dev/nvme0n1 /tmp"),
            bind(&format!("{CARD} {DISK}")),
            driver(CARD),
            words("umount /tmp"),
            // Open, though not claimed.
            words("sh -c exec</dev/nvme0n1;echo\tready;sleep\t600").background("ready"),
            bind(DISK),
            Command::new(["@signal", "4", "9"]),
            Command::new(["@wait", "4"]),
            bind(&format!("{DISK} --dry-run")),
            driver(DISK),
            bind(DISK).uid(1000),
            bind(&format!("-v {CARD} {DISK} --owner 1000:1001")),
            driver(DISK),
            words("hugebar map 0000:00:10.0 --bar 0 --hold --backend type1").background("BAR 0"),
            restore(&format!("--timeout 2 {DISK}")),
            restore(&format!("--timeout 2 --force {DISK}")),
            // The kernel takes the device away once it is free.
            Command::new(["@signal", "13", "15"]),
            Command::new(["@wait", "13"]),
            restore(&format!("--force {DISK} {CARD}")),
            driver(DISK),
            over(DISK),
            Command::new(["@ls", "/run/hugebar"]),
            restore(DISK),
            // Bound by other means.
            Command::new(["@bind", DISK, "vfio-pci"]),
            restore(DISK),
            driver(DISK),
            bind(PAIR[0]),
            driver(PAIR[1]),
            bind(&format!("{} --group", PAIR[0])),
            restore(&format!("{} --group", PAIR[1])),
            words("exercise killed 0000:00:10.0"),
        ])
        .unwrap();
    let [
        mount,
        mounted,
        untouched,
        _,
        _,
        open,
        _,
        _,
        dry,
        dry_after,
        user,
        bound,
        bound_after,
        _,
        held,
        stuck,
        _,
        _,
        back,
        back_after,
        over,
        records,
        forgotten,
        _,
        chosen,
        chosen_after,
        alone,
        beside,
        group,
        group_back,
        killed,
    ] = &report.commands[..]
    else {
        panic!("{report:?}");
    };
    assert!(mount.success(), "{mount:?}");
    assert_refused(mounted, "in-use", &[DISK, "nvme0n1 is mounted on /tmp"]);
    assert!(
        untouched.stdout().ends_with("/virtio-pci\n"),
        "{untouched:?}"
    );
    assert_refused(open, "in-use", &["(sh) has nvme0n1 open"]);
    assert!(
        dry.success() && dry.stdout().contains("driver/unbind"),
        "{dry:?}"
    );
    assert!(dry_after.stdout().ends_with("/nvme\n"), "{dry_after:?}");
    assert_eq!(user.code(), 2, "{user:?}");

    let vfio = Some("vfio-pci");
    let virtio = Some("virtio-pci");
    assert_changed(bound, &[(CARD, virtio, vfio), (DISK, Some("nvme"), vfio)]);
    for line in [
        "driver_override\n",
        "chown 1000:1001 ",
        "driverctl set-override",
    ] {
        assert!(bound.stderr().contains(line), "{line:?}: {bound:?}");
    }
    assert!(
        bound_after.stdout().ends_with("/vfio-pci\n"),
        "{bound_after:?}"
    );

    assert_refused(held, "in-use", &["(hugebar) has it open by VFIO"]);
    // The output ends although a process is left behind.
    assert_refused(
        stuck,
        "timed-out",
        &["unbinding its driver", "(hugebar) has it open by VFIO"],
    );
    assert!(stuck.wall < std::time::Duration::from_secs(20), "{stuck:?}");
    for output in [dry, back, chosen] {
        document(output, "bind");
    }
    assert!(back.success(), "{back:?}");
    assert!(back_after.stdout().ends_with("/nvme\n"), "{back_after:?}");
    assert_eq!(over.stdout(), "(null)\n");
    assert_eq!(records.stdout(), "");
    assert_refused(forgotten, "not-remembered", &[DISK]);
    assert!(chosen.success(), "{chosen:?}");
    assert!(
        chosen_after.stdout().ends_with("/nvme\n"),
        "{chosen_after:?}"
    );
    // The other function keeps its driver, and so the group cannot be opened.
    assert_changed(alone, &[(PAIR[0], virtio, vfio)]);
    let told = format!(
        "no program can open it yet: {} is bound to virtio-pci",
        PAIR[1]
    );
    assert!(alone.stderr().contains(&told), "{alone:?}");
    assert!(alone.stderr().contains("(--group)"), "{alone:?}");
    assert!(beside.stdout().ends_with("/virtio-pci\n"), "{beside:?}");
    assert_changed(group, &[(PAIR[0], vfio, vfio), (PAIR[1], virtio, vfio)]);
    assert!(!group.stderr().contains("no program"), "{group:?}");
    assert_changed(group_back, &PAIR.map(|own| (own, vfio, virtio)));
    assert!(killed.success(), "{killed:?}");
}

/// Without an IOMMU VFIO refuses the device: its own driver is back at once.
#[test]
fn what_cannot_be_bound_keeps_its_driver() {
    let drive = drive();
    let report = with_drive("newest", &drive)
        .append("intel_iommu=off")
        .run(&[
            words(&format!("hugebar bind --json {DISK}")),
            driver(DISK),
            over(DISK),
            Command::new(["@ls", "/run/hugebar"]),
            words(&format!("hugebar bind --json --driver x_vfio_pci {DISK}")),
            driver(DISK),
        ])
        .unwrap();
    let [refused, after, over, records, unknown, untouched] = &report.commands[..] else {
        panic!("{report:?}");
    };
    assert_refused(
        refused,
        "system",
        &["binding it to vfio-pci", "no IOMMU covers it"],
    );
    assert_eq!(ErrorReport::of(refused).error.errno, Some(22));
    assert_eq!(over.stdout(), "(null)\n");
    assert_eq!(records.stdout(), "");
    assert_refused(unknown, "not-found", &["x_vfio_pci"]);
    for output in [after, untouched] {
        assert!(output.stdout().ends_with("/nvme\n"), "{output:?}");
    }
}
