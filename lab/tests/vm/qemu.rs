//! `hugebar inspect` on Debian's QEMU, which runs inside the guest with a device passed through,
//! and does not use hugebar.
//!
//! Its machine runs the firmware on an emulated processor. When the firmware has enabled the BARs, QEMU maps them in
//! the IOMMU, and the kernel installs their leaves. On the lab kernel QEMU's own page tables confirm the result.

use std::ops::Range;

use hugebar::facts::Status;
use hugebar::leaf::{GIB, KIB, LeafSizes, MIB};
use hugebar_lab::cache::Cache;
use hugebar_lab::debian::QEMU_10_0;
use hugebar_lab::nested::{self, READY};
use hugebar_lab::{Command, Output, Spec, Thp};

use crate::device::with_exercise;
use crate::inspect::{Mapping, Process, Report, inspect};
use crate::report::{Counts, kernel_that_asks};

/// A machine of the lab, and the command that runs QEMU in it with these devices passed through.
fn with_qemu(kernel: &str, devices: &[&str]) -> (Spec, Command) {
    let qemu = QEMU_10_0.get(&Cache::open().unwrap()).unwrap();
    let spec = with_exercise(kernel).copy(qemu.files());
    (spec, nested::command(&qemu, devices))
}

/// Adjacent leaves of one size that map device memory.
#[derive(Debug)]
pub(crate) struct Row {
    addresses: Range<u64>,
    leaf: u64,
}

impl Row {
    /// Parses a row such as `0x00007f0040000000-0x00007f0140000000  4G USR RW PCD PSE NX pud`.
    fn of(text: &str) -> Self {
        let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap();
        let mut words = text.split_whitespace();
        let (start, end) = words.next().unwrap().split_once('-').unwrap();
        let leaf = match words.next_back().unwrap() {
            "pud" => GIB,
            "pmd" => 2 * MIB,
            "pte" => 4 * KIB,
            other => panic!("level {other}: {text}"),
        };
        Row {
            addresses: hex(start)..hex(end),
            leaf,
        }
    }
}

/// The leaves for device memory in a process's page tables, as `exercise tables` prints them.
pub(crate) fn tables(output: &Output) -> Vec<Row> {
    assert!(output.success(), "{output:?}");
    let text = output.stdout();
    let rows = text.strip_suffix("ok\n").unwrap();
    rows.lines().map(Row::of).collect()
}

/// The number of leaves that map these addresses.
pub(crate) fn leaves_at(tables: &[Row], addresses: &Range<u64>) -> Counts {
    [GIB, 2 * MIB, 4 * KIB].map(|leaf| {
        let rows = tables.iter().filter(|row| row.leaf == leaf);
        let bytes = rows.map(|row| {
            let start = row.addresses.start.max(addresses.start);
            row.addresses.end.min(addresses.end).saturating_sub(start)
        });
        bytes.sum::<u64>() / leaf
    })
}

/// QEMU, the only process in a report.
fn qemu(output: &Output) -> Process {
    assert!(output.success(), "{output:?}");
    let mut report = Report::of(output);
    assert_eq!((report.processes.len(), report.unreadable), (1, 0));
    let process = report.processes.remove(0);
    assert_eq!(process.name, "qemu-system-x86");
    process
}

/// QEMU's mappings of a `pci-testdev,membar=4G`: BAR 2 at an optimal address, and the page of BAR 0.
fn assert_bars(process: &Process, device: &str) {
    let [large, small] = &process.mappings[..] else {
        panic!("{process:?}");
    };
    large.assert_sound(device, &LeafSizes::X86_64);
    assert_eq!(place(large), (Some(2), Some(0), 4 * GIB));
    assert_eq!((large.congruent, large.optimal), (GIB, true));
    assert_eq!(large.possible(), [4, 0, 0]);

    assert_eq!(small.device.as_deref(), Some(device));
    assert_eq!(place(small), (Some(0), Some(0), 4 * KIB));
    assert_eq!(small.possible(), [0, 0, 1]);
    assert!(small.optimal, "{small:?}");
}

/// Checks that the page tables have the possible leaves.
fn assert_possible(process: &Process, tables: &[Row]) {
    for mapping in &process.mappings {
        let there = leaves_at(tables, &mapping.addresses());
        assert_eq!(there, mapping.possible(), "{mapping:?}");
    }
}

fn place(mapping: &Mapping) -> (Option<u32>, Option<u64>, u64) {
    (mapping.region, mapping.offset, mapping.size)
}

/// The page tables have the possible leaves; inspecting QEMU does not change them, but reading its smaps
/// does.
#[test]
fn what_is_said_of_qemu_is_in_its_page_tables_and_stays_there() {
    let device = "0000:00:10.0";
    let (spec, qemu_command) = with_qemu("lab", &[device]);
    let tables_now = Command::new(["exercise", "tables", "{pid:0}"]);
    let looks = [
        inspect("--json"),
        inspect("{pid:0} --json"),
        inspect(&format!("{device} --json")),
        inspect("{pid:0} --require 1G"),
        Command::new(["hugebar", "doctor", device]),
        inspect("{pid:0} --smaps --json"),
    ];
    let mut commands = vec![qemu_command, tables_now.clone()];
    for look in looks {
        commands.extend([look, tables_now.clone()]);
    }
    let report = spec.run(&commands).unwrap();
    let [
        outcome,
        before,
        all,
        after_all,
        by_pid,
        after_by_pid,
        by_device,
        after_by_device,
        required,
        after_required,
        doctor,
        after_doctor,
        smaps,
        after_smaps,
    ] = &report.commands[..]
    else {
        panic!("{report:?}");
    };
    assert!(outcome.stdout().contains(READY), "{outcome:?}");

    let rows = tables(before);
    for output in [all, by_pid, by_device] {
        let process = qemu(output);
        assert_bars(&process, device);
        assert_possible(&process, &rows);
    }
    assert!(required.success(), "{required:?}");
    // It finds that QEMU has the device open.
    assert_eq!(doctor.code(), 1, "{doctor:?}");
    assert!(doctor.stdout().contains("(qemu-system-x86)"), "{doctor:?}");
    for (look, after) in [
        ("inspect", after_all),
        ("inspect PID", after_by_pid),
        ("inspect DEV", after_by_device),
        ("inspect --require", after_required),
        ("doctor", after_doctor),
    ] {
        // Nothing touches the BARs meanwhile, so a removed leaf does not come back.
        assert_eq!(
            after.stdout(),
            before.stdout(),
            "{look} has changed the page tables"
        );
    }

    // So the comparison can fail, and QEMU still runs after all of this.
    let advised = qemu(smaps).mappings;
    assert!(advised.iter().all(|own| own.smaps.as_ref().unwrap().hinted));
    let left = tables(after_smaps);
    assert_eq!(leaves_at(&left, &advised[0].addresses()), [0, 0, 0]);
    assert_eq!(leaves_at(&left, &advised[1].addresses()), [0, 0, 1]);
    assert!(outcome.success(), "{outcome:?}");
}

/// One device by its group, the other by its own node and an iommufd, which cannot map BARs: each mapping is
/// attributed to the right device. The group's container maps the BARs of both.
#[test]
fn two_devices_of_one_qemu() {
    let devices = ["0000:00:10.0", "0000:00:11.0"];
    let by_node = format!("{},iommufd=i -object iommufd,id=i", devices[1]);
    let (spec, qemu_command) = with_qemu("lab", &[devices[0], &by_node]);
    let spec = spec.device("pci-testdev,membar=4G");
    let report = spec
        .device("pci-testdev,membar=4G")
        .run(&[
            qemu_command,
            Command::new(["exercise", "tables", "{pid:0}"]),
            inspect("--json"),
            inspect("--require optimal"),
        ])
        .unwrap();
    let [_, before, all, required] = &report.commands[..] else {
        panic!("{report:?}");
    };
    let before = tables(before);
    let mut process = qemu(all);
    assert_possible(&process, &before);
    let mappings = std::mem::take(&mut process.mappings);
    let is_first = |mapping: &Mapping| mapping.device.as_deref() == Some(devices[0]);
    let (first, second) = mappings.into_iter().partition(is_first);
    for (device, mappings) in devices.into_iter().zip([first, second]) {
        process.mappings = mappings;
        assert_bars(&process, device);
    }
    assert!(required.success(), "{required:?}");
}

/// A normal QEMU, and one started by a process with transparent huge pages disabled.
fn well_and_hindered(kernel: &str) {
    let devices = ["0000:00:10.0", "0000:00:11.0"];
    let (spec, well) = with_qemu(kernel, &devices[..1]);
    let (_, hindered) = with_qemu(kernel, &devices[1..]);
    let report = spec
        .device("pci-testdev,membar=4G")
        .device("pci-testdev,membar=256M")
        .run(&[
            well,
            without_thp(hindered),
            inspect("{pid:0} --json"),
            inspect("{pid:0} --require 1G"),
            inspect(&format!("{} --require optimal", devices[0])),
            inspect("{pid:1} --json"),
            inspect("{pid:1} --require 2M"),
            inspect(&format!("{} --require optimal", devices[1])),
            Command::new(["@cat", "/proc/{pid:0}/status"]),
            Command::new(["exercise", "tables", "{pid:1}"]),
        ])
        .unwrap();
    let [
        _,
        _,
        well,
        gib,
        optimal,
        hindered,
        two_mib,
        short,
        status,
        pages,
    ] = &report.commands[..]
    else {
        panic!("{report:?}");
    };
    let process = qemu(well);
    assert_eq!(process.thp_disabled, Some(false));
    assert_bars(&process, devices[0]);
    assert!(gib.success() && optimal.success(), "{gib:?} {optimal:?}");
    assert!(page_tables(status) < PAGES_OF_4_GIB, "{status:?}");

    let process = qemu(hindered);
    assert_eq!(process.thp_disabled, Some(true));
    let large = &process.mappings[0];
    assert_eq!(large.device.as_deref(), Some(devices[1]));
    assert_eq!(place(large), (Some(2), Some(0), 256 * MIB));
    assert_eq!(large.possible(), [0, 0, 65_536]);
    assert!(!large.optimal && large.reasons.iter().any(|note| note.code == "thp-disabled"));
    assert_eq!((two_mib.code(), short.code()), (1, 1), "{two_mib:?}");
    if kernel == "lab" {
        assert_possible(&process, &tables(pages));
    }
}

/// `PR_SET_THP_DISABLE` is inherited over exec.
fn without_thp(mut command: Command) -> Command {
    let prefix = ["exercise", "no-thp"].map(str::to_owned);
    command.argv.splice(..0, prefix);
    command
}

/// The size of page tables for 4 GiB of 4 KiB leaves, to check the leaves of other processes by.
const PAGES_OF_4_GIB: u64 = 4 * GIB / (4 * KIB) * 8;

/// The size of a process's page tables, from its `status`.
fn page_tables(status: &Output) -> u64 {
    Status::parse(&status.stdout).vm_pte.unwrap()
}

#[test]
fn qemu_on_6_12() {
    well_and_hindered("6.12");
}

#[test]
fn qemu_on_the_newest() {
    well_and_hindered("newest");
}

#[test]
fn qemu_on_the_lab_kernel() {
    well_and_hindered("lab");
}

/// QEMU hints BARs too (`MADV_HUGEPAGE`, as for all of its guest's memory)
/// before anything touches them: a kernel that asks the THP policy gives it huge pages under `madvise` as well.
#[test]
fn qemu_hints() {
    let kernel = kernel_that_asks();
    let devices = ["0000:00:10.0", "0000:00:11.0"];
    let (spec, hinted) = with_qemu(kernel, &devices[..1]);
    let (_, refused) = with_qemu(kernel, &devices[1..]);
    let status = |index| Command::new(["@cat".to_owned(), format!("/proc/{{pid:{index}}}/status")]);
    let report = spec
        .device("pci-testdev,membar=4G")
        .device("pci-testdev,membar=4G")
        .run(&[
            hinted.thp(Thp::Madvise),
            refused.thp(Thp::Never),
            status(0),
            inspect("{pid:0} --json").thp(Thp::Madvise),
            status(1),
            inspect("{pid:1} --json").thp(Thp::Never),
            // Under a policy that was set too late its page tables tell what it has.
            inspect("--json").thp(Thp::Always),
        ])
        .unwrap();
    let [_, _, hinted, of_hinted, refused, of_refused, later] = &report.commands[..] else {
        panic!("{report:?}");
    };
    assert!(page_tables(hinted) < PAGES_OF_4_GIB, "{hinted:?}");
    assert_bars(&qemu(of_hinted), devices[0]);
    assert!(page_tables(refused) > PAGES_OF_4_GIB, "{refused:?}");
    let possible = qemu(of_refused).mappings[0].possible();
    assert_eq!(possible, [0, 0, 1_048_576], "{of_refused:?}");
    let judged = |process: &Process| process.mappings[0].judgement.clone();
    let judged: Vec<_> = Report::of(later).processes.iter().map(judged).collect();
    assert_eq!(judged, ["optimal", "contradicted"], "{later:?}");
}
