//! `hugebar inspect` on processes that hold mappings.

use std::collections::BTreeMap;
use std::ops::Range;

use hugebar::leaf::{self, GIB, KIB, LeafSizes, MIB};
use hugebar_lab::{Command, HostFile, Output, Thp};
use serde::Deserialize;

use crate::device::with_exercise;
use crate::monitoring::Metrics;
use crate::report::{Counts, ErrorReport, kernel_that_asks, machine, map, version};
use crate::schema::document;

#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    version: u32,
    pub(crate) processes: Vec<Process>,
    pub(crate) unreadable: u64,
    #[serde(default)]
    pub(crate) unanswered: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) thp_disabled: Option<bool>,
    pub(crate) page_tables: Option<u64>,
    pub(crate) mappings: Vec<Mapping>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Mapping {
    address: String,
    pub(crate) size: u64,
    pub(crate) device: Option<String>,
    candidates: Vec<String>,
    driver: Option<String>,
    pub(crate) region: Option<u32>,
    pub(crate) offset: Option<u64>,
    physical: Option<String>,
    pub(crate) congruent: u64,
    best: BTreeMap<u64, u64>,
    possible: BTreeMap<u64, u64>,
    pub(crate) optimal: bool,
    pub(crate) judgement: String,
    pub(crate) not_in_base_pages: bool,
    pub(crate) smaps: Option<Advice>,
    pub(crate) reasons: Vec<Note>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Advice {
    pub(crate) hinted: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Note {
    pub(crate) code: String,
}

impl Report {
    pub(crate) fn of(output: &Output) -> Self {
        let report: Self = serde_json::from_value(document(output, "inspect")).unwrap();
        assert_eq!(report.version, 1);
        report
    }

    /// The mappings of the only process.
    fn mappings(output: &Output) -> Vec<Mapping> {
        let mut report = Self::of(output);
        assert_eq!(report.processes.len(), 1, "{report:?}");
        let process = report.processes.remove(0);
        assert_eq!(
            (process.name.as_str(), process.thp_disabled),
            ("hugebar", Some(false))
        );
        process.mappings
    }
}

impl Mapping {
    fn hex(text: &str) -> u64 {
        u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
    }

    /// Its address range in the process.
    pub(crate) fn addresses(&self) -> Range<u64> {
        let start = Self::hex(&self.address);
        start..start + self.size
    }

    pub(crate) fn possible(&self) -> Counts {
        [GIB, 2 * MIB, 4 * KIB].map(|size| self.possible[&size])
    }

    /// Checks everything against the rule, at any address.
    pub(crate) fn assert_sound(&self, device: &str, sizes: &LeafSizes) {
        assert_eq!(self.device.as_deref(), Some(device), "{self:?}");
        assert!(self.candidates.is_empty());
        let physical = Self::hex(self.physical.as_deref().unwrap());
        let address = self.addresses().start;
        // BAR 2 of the device is naturally aligned.
        assert_eq!(physical % (4 * GIB), self.offset.unwrap());
        let rule = leaf::leaves(address, physical, self.size, sizes);
        let best = leaf::leaves(physical, physical, self.size, &LeafSizes::X86_64);
        let counts = |leaves: &leaf::Leaves| [GIB, 2 * MIB, 4 * KIB].map(|size| leaves.count(size));
        assert_eq!(self.possible(), counts(&rule), "{self:?}");
        let reported = [GIB, 2 * MIB, 4 * KIB].map(|size| self.best[&size]);
        assert_eq!(reported, counts(&best), "{self:?}");
        assert_eq!(self.driver.as_deref(), Some("vfio-pci"));
        assert_eq!(self.optimal, rule.total() == best.total());
        let unsure = self.reasons.iter().any(|note| note.code == "thp-policy");
        let judgement = match (self.optimal, unsure) {
            (true, false) => "optimal",
            (true, true) => "not-counted",
            (false, _) => "falls-short",
        };
        assert_eq!(self.judgement, judgement, "{self:?}");
        assert_eq!(address % self.congruent, physical % self.congruent);
    }
}

pub(crate) fn inspect(arguments: &str) -> Command {
    let words = ["hugebar", "inspect"].into_iter();
    Command::new(words.chain(arguments.split_whitespace()))
}

/// Inspecting a process does not change its leaves, as the page tables show.
#[test]
fn nothing_is_taken_from_whom_it_looks_at() {
    let watched = Command::new(["exercise", "watched", "0000:00:10.0"]);
    let report = with_exercise("lab").run(&[watched]).unwrap();
    let output = &report.commands[0];
    assert!(output.success() && output.stdout() == "ok\n", "{output:?}");
}

/// Processes with devices, a congruent mapping with a hole and a plain one, and the commands that inspect them.
fn holders(kernel: &str, backend: &str, sizes: &LeafSizes) {
    let huge = sizes.largest() == GIB;
    let hold = |arguments: &str| {
        map(&format!("{arguments} --bar 2 --hold --backend {backend}"))
            .thp(Thp::Always)
            .background("BAR 2")
    };
    let report = machine(kernel)
        .device("pci-testdev,membar=4G")
        .device("pci-testdev,membar=4G")
        .run(&[
            hold("0000:00:10.0 --exclude 0x6000+0x1000"),
            hold("0000:00:11.0 --placement plain --limit 0"),
            inspect("{pid:0} --json"),
            inspect("{pid:1} --json"),
            inspect("--json"),
            inspect("0000:00:11.0 --json"),
            inspect("{pid:0} --require 1G"),
            inspect("{pid:0} --require optimal"),
            inspect("0000:00:11.0 --require 1G"),
            inspect("--json").uid(1000),
            inspect("{pid:0} --json").uid(1000),
            inspect("99999999 --json"),
            inspect("1 --require optimal"),
            inspect("{pid:0} -o device,region,offset,judgement --noheadings"),
            inspect("--prometheus"),
            Command::new(["hugebar", "list", "--all", "--prometheus=/tmp/list.prom"]),
            Command::new(["@cat", "/tmp/list.prom"]),
            Command::new(["hugebar", "doctor", "--report", "-"]),
            Command::new([
                "hugebar",
                "doctor",
                "0000:00:10.0",
                "--report=/tmp/report",
                "--redact",
            ]),
            Command::new(["@cat", "/tmp/report"]),
            inspect("{pid:0} --smaps --json"),
        ])
        .unwrap();
    let [
        _,
        _,
        holed,
        plain,
        all,
        of_device,
        gib,
        optimal,
        short,
        others,
        refused,
        gone,
        none,
        columns,
        metrics,
        to_file,
        file,
        open,
        doctor,
        redacted,
        smaps,
    ] = &report.commands[..]
    else {
        panic!("{report:?}");
    };

    let mappings = Report::mappings(holed);
    let [low, high] = &mappings[..] else {
        panic!("{holed:?}");
    };
    for (mapping, offset, size) in [(low, 0, 0x6000), (high, 0x7000, 4 * GIB - 0x7000)] {
        mapping.assert_sound("0000:00:10.0", sizes);
        let place = (mapping.region, mapping.offset, mapping.size);
        assert_eq!(place, (Some(2), Some(offset), size), "{mapping:?}");
        assert_eq!(mapping.congruent, GIB);
        assert!(mapping.smaps.is_none(), "only when asked");
    }
    if huge {
        assert_eq!(high.possible(), [3, 511, 505]);
        assert!(high.optimal && high.reasons.is_empty(), "{high:?}");
    } else {
        assert!(
            !high.optimal && high.reasons[0].code == "kernel",
            "{high:?}"
        );
    }

    let mappings = Report::mappings(plain);
    let [whole] = &mappings[..] else {
        panic!("{plain:?}");
    };
    whole.assert_sound("0000:00:11.0", sizes);
    assert_eq!(
        (whole.region, whole.offset, whole.size),
        (Some(2), Some(0), 4 * GIB)
    );
    // One in 512 of 6.12's addresses is as good as the best.
    let lucky = Mapping::hex(&whole.address) % GIB == 0;
    let placed = whole.reasons.iter().all(|note| note.code != "placement");
    assert_eq!(
        (whole.congruent == GIB, placed),
        (lucky, lucky),
        "{whole:?}"
    );
    assert_eq!(whole.optimal, huge && lucky, "{whole:?}");

    let everybody = Report::of(all);
    assert_eq!((everybody.processes.len(), everybody.unreadable), (2, 0));
    let only = Report::of(of_device);
    assert_eq!(only.processes.len(), 1);
    assert_eq!(only.processes[0].pid, everybody.processes[1].pid);

    assert_eq!(gib.code(), i32::from(!huge), "{gib:?}");
    assert_eq!(optimal.code(), i32::from(!huge), "{optimal:?}");
    assert_eq!(short.code(), i32::from(!(huge && lucky)), "{short:?}");
    assert_eq!(
        none.code(),
        1,
        "nothing is mapped, so nothing meets it: {none:?}"
    );
    assert!(none.stdout().contains("no mapping"), "{none:?}");

    let others = Report::of(others);
    assert!(
        others.processes.is_empty() && others.unreadable > 2,
        "{others:?}"
    );
    for (output, kind) in [(refused, "permission-denied"), (gone, "not-found")] {
        assert_eq!(output.code(), 2, "{output:?}");
        assert_eq!(ErrorReport::of(output).error.kind, kind);
        assert_eq!(output.stderr().lines().count(), 1, "{output:?}");
    }

    reported(&everybody, &open.stdout(), &redacted.stdout());
    assert_eq!(doctor.code(), 1, "the device is open: {doctor:?}");
    assert!(doctor.stderr().contains("/tmp/report"), "{doctor:?}");

    let judgement = if huge { "optimal" } else { "falls-short" };
    let rows = columns.stdout();
    let rows: Vec<_> = rows.lines().map(str::split_whitespace).collect();
    let rows: Vec<Vec<_>> = rows.into_iter().map(Iterator::collect).collect();
    let row = |offset, judgement| vec!["0000:00:10.0", "2", offset, judgement];
    // The part below the hole is smaller than a large leaf, and as good as it can be on any kernel.
    let expected = [row("0x0", "optimal"), row("0x7000", judgement)];
    assert_eq!(rows, expected, "{columns:?}");
    assert!(
        to_file.success() && to_file.stdout().is_empty(),
        "{to_file:?}"
    );
    monitored(&everybody, &metrics.stdout(), &file.stdout());

    assert!(
        smaps.stderr().contains("removes the 1 GiB leaves"),
        "{smaps:?}"
    );
    let advised = Report::mappings(smaps);
    assert!(
        advised.iter().all(|own| own.smaps.as_ref().unwrap().hinted),
        "{advised:?}"
    );
}

/// The text for a bug report, in full and redacted.
fn reported(all: &Report, open: &str, redacted: &str) {
    let parts = [
        "kernel",
        "doctor",
        "list --all",
        "show",
        "inspect",
        "kernel log",
    ];
    for part in parts {
        let title = format!("\n## {part}\n\n");
        for text in [open, redacted] {
            assert!(text.contains(&title), "{part}: {text}");
            assert!(
                !text.contains('\u{1b}') && !text.contains("\nfailed: "),
                "{text}"
            );
        }
    }
    // The first is on all devices, the second on one.
    let shown = |text: &str| text.matches("\n## show\n").count();
    assert!(shown(open) >= 2, "{open}");
    assert_eq!(shown(redacted), 1, "{redacted}");
    for text in [open, redacted] {
        assert!(text.contains("DMAR: "), "{text}");
        assert!(text.contains("intel_iommu=on"), "{text}");
    }
    let process = &all.processes[0];
    let named = format!("process {}  hugebar\n", process.pid);
    let unnamed = format!("process {}  <name>\n", process.pid);
    assert!(open.contains(&named), "{open}");
    assert!(redacted.contains(&unnamed), "{redacted}");
    let holder = format!("process {} (<name>)", process.pid);
    assert!(redacted.contains(&holder), "{redacted}");
    for mapping in all.processes.iter().flat_map(|own| &own.mappings) {
        let physical = mapping.physical.as_deref().unwrap();
        for (address, is_shown) in [
            (mapping.address.as_str(), true),
            // That of the BAR.
            (physical, mapping.offset == Some(0)),
        ] {
            assert_eq!(open.contains(address), is_shown, "{address}: {open}");
            // A power of two is taken for a size.
            let stays = is_shown && Mapping::hex(address).is_power_of_two();
            assert_eq!(redacted.contains(address), stays, "{address}: {redacted}");
        }
    }
}

/// The gauges say the same as the JSON.
fn monitored(all: &Report, inspect: &str, list: &str) {
    let metrics = Metrics::collected(&[("list", list), ("inspect", inspect)]);
    let process = &all.processes[0];
    for mapping in &process.mappings {
        let pid = process.pid.to_string();
        let labels = [
            ("pid", pid.as_str()),
            ("process", "hugebar"),
            ("device", "0000:00:10.0"),
            ("region", "2"),
            ("address", &mapping.address),
        ];
        let value = |name: &str, more: &[(&str, &str)]| {
            metrics.value(
                &format!("hugebar_mapping_{name}"),
                &[&labels[..], more].concat(),
            )
        };
        assert_eq!(value("size_bytes", &[]), Some(mapping.size));
        assert_eq!(value("congruent_bytes", &[]), Some(mapping.congruent));
        assert_eq!(value("optimal", &[]), Some(mapping.optimal.into()));
        for judgement in ["optimal", "not-counted", "falls-short", "contradicted"] {
            let made = u64::from(mapping.judgement == judgement);
            assert_eq!(value("judgement", &[("judgement", judgement)]), Some(made));
        }
        for (size, count) in &mapping.possible {
            let size = size.to_string();
            let found = value("possible_leaves", &[("leaf_bytes", &size)]);
            assert_eq!(found, Some(*count));
        }
        let coded = |code| value("reason", &[("code", code)]).is_some();
        let given = |code| mapping.reasons.iter().any(|one| one.code == code);
        for code in ["kernel", "placement"] {
            assert_eq!(coded(code), given(code), "{code}");
        }
    }
    let bar = [("device", "0000:00:11.0"), ("bar", "2")];
    assert_eq!(metrics.value("hugebar_bar_size_bytes", &bar), Some(4 * GIB));
    let gib = [bar[0], bar[1], ("leaf_bytes", "1073741824")];
    let best = metrics.value("hugebar_bar_best_leaves", &gib);
    let possible = metrics.value("hugebar_bar_possible_leaves", &gib);
    let huge = metrics.value("hugebar_host_kernel_has_large_leaves", &[]);
    assert_eq!((best, possible), (Some(4), huge.map(|huge| huge * 4)));
}

#[test]
fn holders_on_6_1() {
    holders("6.1", "type1", &LeafSizes::X86_64.only_base());
}

#[test]
fn holders_on_6_12() {
    holders("6.12", "type1", &LeafSizes::X86_64);
}

#[test]
fn holders_on_the_newest() {
    holders("newest", "type1", &LeafSizes::X86_64);
}

/// Devices opened by their own nodes, whose paths are in `maps`.
#[test]
fn holders_by_iommufd() {
    holders("lab", "iommufd", &LeafSizes::X86_64);
}

/// A process with THP disabled can have only base pages.
#[test]
fn a_process_without_transparent_huge_pages() {
    let words = [
        "exercise",
        "no-thp",
        "hugebar",
        "map",
        "--bar",
        "2",
        "--hold",
        "0000:00:10.0",
    ];
    let report = with_exercise("newest")
        .device("pci-testdev,membar=256M")
        .run(&[
            Command::new(words).background("BAR 2"),
            inspect("{pid:0} --json"),
            inspect("{pid:0} --require 2M"),
        ])
        .unwrap();
    let process = Report::of(&report.commands[1]).processes.remove(0);
    assert_eq!(process.thp_disabled, Some(true));
    let mapping = &process.mappings[0];
    assert_eq!(mapping.possible(), [0, 0, 65_536]);
    assert!(!mapping.optimal);
    assert!(
        mapping
            .reasons
            .iter()
            .any(|note| note.code == "thp-disabled")
    );
    assert_eq!(report.commands[2].code(), 1);
}

/// Under a policy that this kernel asks: the possible leaves, and what is unknown without smaps.
#[test]
fn policies_that_the_kernel_asks() {
    for kernel in [kernel_that_asks(), "newest"] {
        let asks = version(kernel).asks_thp_policy();
        let report = machine(kernel)
            .run(&[
                map("0000:00:10.0 --bar 2 --hold")
                    .thp(Thp::Always)
                    .background("BAR 2"),
                inspect("{pid:0} --json"),
                inspect("{pid:0} --json").thp(Thp::Madvise),
                inspect("{pid:0} --json --smaps"),
                inspect("{pid:0} --json").thp(Thp::Never),
                inspect("{pid:0} --require 1G"),
                Command::new(["@signal", "0", "15"]),
                Command::new(["@wait", "0"]),
                // And an unhinted mapping.
                map("0000:00:10.0 --bar 2 --hint off --limit 0 --hold")
                    .thp(Thp::Madvise)
                    .background("BAR 2"),
                inspect("{pid:8} --json"),
                inspect("{pid:8} --require 1G"),
                inspect("{pid:8} --json --smaps"),
                inspect("{pid:8} --require 1G --smaps"),
            ])
            .unwrap();
        let [
            _,
            always,
            madvise,
            advised,
            never,
            required,
            _,
            _,
            _,
            unknown,
            perhaps,
            unhinted,
            refused,
        ] = &report.commands[..]
        else {
            panic!("{report:?}");
        };
        let seen = |output| {
            let mapping = Report::mappings(output).remove(0);
            let codes: Vec<_> = mapping.reasons.iter().map(|one| one.code.clone()).collect();
            (mapping.possible(), codes.concat())
        };
        let none = ([4, 0, 0], String::new());
        let asked = |leaves| match asks {
            true => (leaves, "thp-policy".to_owned()),
            false => none.clone(),
        };
        assert_eq!(seen(always), none, "{kernel}");
        assert_eq!(seen(madvise), asked([4, 0, 0]), "{kernel}");
        assert_eq!(seen(advised), none, "{kernel}: it is hinted");
        assert_eq!(seen(never), asked([0, 0, 1_048_576]), "{kernel}");
        assert_eq!(required.code(), i32::from(asks), "{kernel}");
        assert_eq!(seen(unknown), asked([4, 0, 0]), "{kernel}");
        assert!(perhaps.success(), "{perhaps:?}");
        let warned = perhaps.stderr().contains("THP policy may limit");
        assert_eq!(warned, asks, "{perhaps:?}");
        assert_eq!(seen(unhinted), asked([0, 0, 1_048_576]), "{kernel}");
        assert_eq!(refused.code(), i32::from(asks), "{refused:?}");
    }
}

/// Two devices with BARs of one size in one process: told apart by their own nodes, and where the kernel
/// shows physical addresses (6.1). By group all files of devices have one inode, and nothing is guessed.
#[test]
fn two_alike_in_one_process() {
    for (kernel, backend, told) in [
        ("6.1", "type1", true),
        ("6.12", "type1", false),
        ("newest", "type1", false),
        ("lab", "iommufd", true),
    ] {
        let both = format!("exercise mapped --backend {backend} 0000:00:10.0 0000:00:11.0");
        let report = with_exercise(kernel)
            .device("pci-testdev,membar=256M")
            .device("pci-testdev,membar=256M")
            .run(&[
                Command::new(both.split(' ')).background("mapped"),
                inspect("{pid:0} --json"),
                inspect("0000:00:11.0 --json"),
            ])
            .unwrap();
        let all = Report::of(&report.commands[1]).processes.remove(0);
        let of_one = Report::of(&report.commands[2]).processes.remove(0);
        let devices = ["0000:00:10.0", "0000:00:11.0"];
        assert_eq!(all.mappings.len(), 2, "{kernel}");
        let mut found: Vec<_> = all
            .mappings
            .iter()
            .filter_map(|own| own.device.as_deref())
            .collect();
        found.sort_unstable();
        if told {
            assert_eq!(found, devices, "{kernel}");
            assert_eq!(of_one.mappings.len(), 1, "{kernel}");
        } else {
            assert_eq!(found, [""; 0], "{kernel}");
            assert_eq!(of_one.mappings.len(), 2, "{kernel}: each may be the one");
        }
        for mapping in &all.mappings {
            let place = (mapping.region, mapping.offset);
            assert_eq!(place, (Some(2), Some(0)), "{kernel}: {mapping:?}");
            let vague = mapping.reasons.iter().any(|one| one.code == "device");
            assert_eq!(vague, !told, "{kernel}: {mapping:?}");
            assert_eq!(
                mapping.candidates.len(),
                if told { 0 } else { 2 },
                "{kernel}"
            );
        }
    }
}

/// What the size of the page tables says: of a BAR in the leaves that it can have, of one at as good an address whose
/// leaves are base pages, because of an advice that only smaps would show, and of one that nothing has touched.
fn page_tables_speak(kernel: &str) {
    const BASE_PAGES_OF_1_GIB: u64 = GIB / (4 * KIB) * 8;
    let device = "pci-testdev,membar=1G";
    let hold = |arguments: &str| {
        map(&format!("{arguments} --bar 2 --hold --backend type1"))
            .thp(Thp::Always)
            .background("BAR 2")
    };
    let untouched = Command::new(["exercise", "mapped", "0000:00:12.0"]);
    // Reads a line of smaps, and keeps it open.
    let reads = "exec</proc/{pid:0}/smaps;read\tline;echo\tready;exec\tsleep\t600";
    let program = |host: &str| HostFile {
        host: host.into(),
        guest: None,
    };
    let report = with_exercise(kernel)
        .copy(program("/usr/bin/sh"))
        .copy(program("/usr/bin/sleep"))
        .device(device)
        .device(device)
        .device(device)
        .run(&[
            hold("0000:00:10.0"),
            hold("0000:00:11.0 --hint no-hugepage"),
            untouched.background("mapped"),
            inspect("--json"),
            inspect("{pid:0} --require 1G"),
            inspect("{pid:1} --require 1G"),
            inspect("{pid:1} --require optimal"),
            inspect("{pid:1} --require 4K"),
            inspect("{pid:2} --require 1G"),
            inspect("{pid:1}"),
            inspect("--watchers --json"),
            Command::new(["sh", "-c", reads]).background("ready"),
            inspect("--watchers --json"),
            inspect("{pid:0} --watchers=100ms"),
        ])
        .unwrap();
    let [_, _, _, all, codes @ .., text, unwatched, _, watched, told] = &report.commands[..] else {
        panic!("{report:?}");
    };
    let all = Report::of(all).processes;
    // For docs/inspect.md.
    let sizes = all.iter().filter_map(|process| process.page_tables);
    println!(
        "{kernel}: bytes of page tables {:?}",
        sizes.collect::<Vec<_>>()
    );
    let judged = |process: &Process| {
        let mapping = &process.mappings[0];
        // By their addresses they are alike.
        assert_eq!(mapping.possible(), [1, 0, 0], "{process:?}");
        let codes: Vec<_> = mapping.reasons.iter().map(|one| one.code.clone()).collect();
        let judged = (mapping.judgement.clone(), mapping.not_in_base_pages);
        let small = process.page_tables.unwrap() < BASE_PAGES_OF_1_GIB;
        assert_eq!(mapping.not_in_base_pages, small, "{process:?}");
        (judged, mapping.optimal, codes.concat())
    };
    let fine = (("optimal".to_owned(), true), true, String::new());
    let contradicted = ("contradicted".to_owned(), false);
    let [large, pages, untouched] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!(judged(large), fine);
    assert_eq!(
        judged(pages),
        (contradicted, false, "page-tables".to_owned())
    );
    assert_eq!(judged(untouched), fine);
    let codes: Vec<_> = codes.iter().map(Output::code).collect();
    assert_eq!(codes, [0, 1, 1, 0, 0], "{report:?}");
    assert!(text.stdout().contains("contradicted"), "{text:?}");

    let watchers = |output| document(output, "inspect")["watchers"].clone();
    assert_eq!(watchers(unwatched), serde_json::json!([]));
    let watchers = watchers(watched);
    let [watcher] = &watchers.as_array().unwrap()[..] else {
        panic!("{watchers}");
    };
    assert_eq!(watcher["watched"], large.pid);
    for (name, value) in [("name", "sleep"), ("file", "smaps")] {
        assert_eq!(watcher[name], value);
    }
    assert_eq!(
        (&watcher["has_read"], &watcher["certain"]),
        (&true.into(), &true.into())
    );
    let line = format!(
        "(sleep) has smaps open, of process {}, and has read it",
        large.pid
    );
    assert!(told.stdout().contains(&line), "{told:?}");
}

#[test]
fn page_tables_speak_on_6_12() {
    page_tables_speak("6.12");
}

#[test]
fn page_tables_speak_on_the_newest() {
    page_tables_speak("newest");
}
