//! Programs that do not use hugebar, started by `hugebar run`: Debian's QEMU, and the lab's own.

use std::collections::BTreeMap;
use std::ops::Range;

use hugebar::leaf::{GIB, MIB};
use hugebar_lab::cache::Cache;
use hugebar_lab::debian::QEMU_7_2;
use hugebar_lab::nested::{self, READY};
use hugebar_lab::{Command, HostFile, Output, Spec, Status, Thp};
use serde::Deserialize;

use crate::device::with_exercise;
use crate::inspect::Report;
use crate::qemu::{leaves_at, tables};
use crate::report::{Counts, kernel_that_asks};

const DEVICE: &str = "0000:00:10.0";

/// A machine with the library beside the command, built as for users.
fn with_library(kernel: &str) -> Spec {
    let library =
        hugebar_lab::shared_library("hugebar-preload", "hugebar_preload", "release").unwrap();
    with_exercise(kernel).copy(HostFile {
        host: library,
        guest: Some("/bin/".into()),
    })
}

/// The same command by `hugebar run`.
fn run(options: &str, mut command: Command) -> Command {
    let words = ["hugebar", "run"]
        .into_iter()
        .chain(options.split_whitespace());
    let words: Vec<_> = words.chain(["--"]).map(str::to_owned).collect();
    command.argv.splice(..0, words);
    command
}

fn exercise(arguments: &str) -> Command {
    let words = ["exercise"].into_iter();
    Command::new(words.chain(arguments.split_whitespace()))
}

/// A line of a report.
#[derive(Debug, Deserialize)]
struct Line {
    version: u32,
    region: u32,
    offset: u64,
    size: u64,
    chosen_by: String,
    possible: BTreeMap<u64, u64>,
}

impl Line {
    /// The lines of a report about mappings of the large BAR.
    fn all(text: &str) -> Vec<Self> {
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Line| line.region == 2).collect()
    }

    fn assert_best(&self, chosen_by: &str) {
        assert_eq!((self.version, self.region, self.offset), (1, 2, 0));
        assert_eq!((self.size, &*self.chosen_by), (4 * GIB, chosen_by));
        let possible: Vec<_> = self.possible.values().copied().collect();
        assert_eq!(possible, [0, 0, 4], "{self:?}");
    }
}

/// Debian 12's QEMU with the device, which maps BARs wherever `mmap` puts them.
fn qemu() -> (HostFile, Command) {
    let qemu = QEMU_7_2.get(&Cache::open().unwrap()).unwrap();
    (qemu.files(), nested::command(&qemu, &[DEVICE]))
}

/// What is asked of each QEMU while it runs.
const QUESTIONS: usize = 5;

/// The address ranges of the large BAR in `/proc/PID/maps`.
fn bars(maps: &Output) -> Vec<Range<u64>> {
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let of = |line: &str| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let range = hex(start)..hex(end);
        (line.contains("vfio") && range.end - range.start > MIB).then_some(range)
    };
    maps.stdout().lines().filter_map(of).collect()
}

/// Runs QEMU a number of times with and without `hugebar run`, and returns the leaves that it could have by `inspect` and has by
/// its page tables.
fn qemus(kernel: &str, runs: usize) {
    let (files, qemu) = qemu();
    let mut commands = Vec::new();
    for index in 0..2 * runs {
        let started = match index % 2 {
            0 => run("--report /report", qemu.clone()),
            _ => qemu.clone(),
        };
        let own = commands.len();
        let word = |words: &str| {
            let words = words.replace("OWN", &own.to_string());
            Command::new(words.split(' ').map(str::to_owned).collect::<Vec<_>>())
        };
        commands.push(started);
        commands.push(word("@cat /proc/{pid:OWN}/maps"));
        commands.push(word("hugebar inspect {pid:OWN} --json"));
        commands.push(word("exercise tables {pid:OWN}"));
        commands.push(word("@signal OWN 15"));
        commands.push(word("@wait OWN"));
    }
    commands.push(Command::new(["@cat", "/report"]));
    let report = with_library(kernel).copy(files).run(&commands).unwrap();
    let mut without: Vec<bool> = Vec::new();
    let (last, looks) = report.commands.split_last().unwrap();
    for (index, look) in looks.chunks(QUESTIONS + 1).enumerate() {
        let [qemu, maps, inspected, pages, ..] = look else {
            panic!("{look:?}");
        };
        assert!(qemu.stdout().contains(READY), "{qemu:?}");
        let ranges = bars(maps);
        assert_eq!(ranges.len(), 1, "{maps:?}");
        let bar = &ranges[0];
        assert_eq!(bar.end - bar.start, 4 * GIB);
        let mapping = &Report::of(inspected).processes[0].mappings[0];
        assert_eq!(mapping.addresses(), *bar);
        let there = (kernel == "lab").then(|| leaves_at(&tables(pages), bar));
        println!(
            "{index}: {:x} {:?} {there:?}",
            bar.start,
            mapping.possible()
        );
        if index % 2 == 0 {
            assert_eq!(bar.start % GIB, 0, "{maps:?}");
            assert_eq!((mapping.possible(), mapping.optimal), ([4, 0, 0], true));
            assert!(
                there.is_none_or(|there: Counts| there == [4, 0, 0]),
                "{pages:?}"
            );
        } else {
            without.push(mapping.optimal);
        }
    }
    // An address for the largest leaves comes by luck once in a while.
    assert!(without.contains(&false), "{without:?}");
    let lines = Line::all(&last.stdout());
    assert_eq!(lines.len(), runs, "{last:?}");
    lines.iter().for_each(|line| line.assert_best("hugebar"));
}

#[test]
fn debians_qemu_on_the_lab_kernel() {
    qemus("lab", 5);
}

#[test]
fn debians_qemu_on_the_newest() {
    qemus("newest", 5);
}

/// What Cloud Hypervisor does: an address of its own, and no hint, on a kernel that asks the policy.
#[test]
fn a_program_that_chooses_addresses_gets_the_hint() {
    let fixed = |options: &str| exercise(&format!("fixed {DEVICE} {options}"));
    let by_exercise = |words: &str, mut command: Command| {
        let words = words.split(' ').map(str::to_owned);
        command.argv.splice(..0, words);
        command
    };
    let disabled = |command| by_exercise("exercise no-thp", command);
    let opened = |command| by_exercise("exercise opened 7 /lines", command);
    let report = with_library(kernel_that_asks())
        .thp(Thp::Madvise)
        .run(&[
            fixed("--allowed own"),
            run("", fixed("--allowed own")),
            run("", fixed("--allowed both")),
            run("--report /report", fixed("")),
            disabled(run("", fixed(""))),
            disabled(run("--keep-thp", fixed(""))),
            Command::new(["@cat", "/report"]),
            Command::new(["hugebar", "run", "/job.json"]),
            // A program that has forbidden itself to open files.
            run("--report /no-report", fixed("--allowed both")),
            opened(run("--report 7", fixed("--allowed both"))),
            Command::new(["@cat", "/lines"]),
        ])
        .unwrap();
    let [
        bare,
        killed,
        confined,
        told,
        enabled,
        kept,
        lines,
        refused,
        rest @ ..,
    ] = &report.commands[..]
    else {
        panic!("{report:?}");
    };
    let [opens, writes, written] = rest else {
        panic!("{report:?}");
    };
    let faults = |output: &Output| {
        assert!(output.success(), "{output:?}");
        let text = output.stdout();
        let faults = text.lines().find_map(|line| line.strip_suffix(" faults"));
        faults.unwrap().parse::<u64>().unwrap()
    };
    assert_eq!((faults(bare), faults(confined)), (1_048_576, 4));
    // So the filter does forbid.
    assert_eq!(killed.status, Some(Status::Signaled(31)), "{killed:?}");
    assert_eq!(
        (faults(told), faults(enabled), faults(kept)),
        (4, 4, 1_048_576)
    );
    let said = enabled.stderr();
    assert!(
        said.contains("(PR_SET_THP_DISABLE): enabled again for hinted memory"),
        "{said}"
    );
    assert!(
        kept.stderr().contains("the program gets base pages"),
        "{kept:?}"
    );
    let lines = Line::all(&lines.stdout());
    assert_eq!(lines.len(), 1);
    lines[0].assert_best("program");
    assert_eq!(refused.code(), 2, "{refused:?}");
    assert_eq!(opens.status, Some(Status::Signaled(31)), "{opens:?}");
    assert_eq!(faults(writes), 4);
    let lines = Line::all(&written.stdout());
    assert_eq!(lines.len(), 1, "{written:?}");
    lines[0].assert_best("program");
}

/// All kinds of mappings, in threads and children: of a device that was opened by its group, by its node, and by its node
/// where its number was unknown when the library was loaded.
#[test]
fn mappings_are_what_was_asked_for() {
    let storm = |options: &str| exercise(&format!("storm {DEVICE} {options}"));
    let report = with_library("lab")
        .run(&[
            storm("--seconds 1"),
            run("", storm("--preloaded")),
            run("", storm("iommufd --preloaded --seconds 2")),
            Command::new(["@cover", "/proc/devices", "/job.json"]),
            run("", storm("iommufd --preloaded --seconds 2")),
        ])
        .unwrap();
    for output in &report.commands {
        assert!(output.success(), "{output:?}");
        print!("{}", output.stdout());
    }
}
