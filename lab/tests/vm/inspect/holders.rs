//! Processes that hold good and bad mappings of devices, on each kernel and backend.

use hugebar::leaf::{GIB, LeafSizes};
use hugebar_lab::{Command, Thp};

use super::{Mapping, Report, inspect};
use crate::monitoring::Metrics;
use crate::report::{ErrorReport, machine, map};

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
