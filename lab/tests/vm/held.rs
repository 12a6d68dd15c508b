//! A BAR that another resource of the machine claims: the device opens, but the BAR cannot be mapped.

use hugebar_lab::{Command, Output, Spec};

use crate::doctor::{assert_step, doctor};
use crate::report::{ErrorReport, Report, machine, map, map_json};

const DEVICE: &str = "0000:00:10.0";

/// The kernel's command line reserves ranges at intervals of BAR 2's size: wherever firmware places the BAR,
/// one of them lies in its middle. BAR 0 is free.
fn with_reserved_memory(kernel: &str) -> Spec {
    const TIB: u64 = 1 << 40;
    let size = 16 * TIB;
    let middles = (0..8).map(|block| block * size + size / 2);
    middles.fold(
        machine(kernel).device("pci-testdev,membar=16T"),
        |spec, middle| spec.append(format!("memmap=64K${middle:#x}")),
    )
}

/// Checks that the text names BAR 2's holder and the remedy.
fn assert_names_the_holder(text: &str) {
    for words in [
        "0000:00:10.0 BAR 2: mmap of area",
        "busy (os error 16)",
        "held by Reserved (0x",
        "8000000ffff)",
        "memmap=",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
}

/// One line on stderr names it, and the exit status is that of an error.
fn assert_told(output: &Output) {
    assert_eq!(output.code(), 2, "{output:?}");
    let line = output.stderr();
    assert_eq!(line.lines().count(), 1, "one line: {line}");
    assert!(line.starts_with("hugebar: "), "{line}");
    assert_names_the_holder(&line);
}

#[test]
fn a_bar_that_is_held_hides_no_other() {
    let on = |words: &str| format!("{DEVICE} {words}");
    let report = with_reserved_memory("lab")
        .run(&[
            map_json(DEVICE),
            map(&on("--witness --require optimal")),
            map_json(&on("--bar 2")),
            map_json(&on("--bar 0")),
            map(&on("--hold")).background("BAR 0"),
            Command::new(["@cat", "/proc/{pid:4}/maps"]),
            Command::new(["@signal", "4", "15"]),
            Command::new(["@wait", "4"]),
            map(&on("--bar 2 --hold")),
            doctor(DEVICE),
            doctor(DEVICE).uid(1000),
        ])
        .unwrap();
    let [
        json,
        text,
        alone,
        free,
        held,
        maps,
        ..,
        not_held,
        root,
        user,
    ] = &report.commands[..]
    else {
        panic!("{report:?}");
    };
    assert_told(json);
    let parsed = Report::parse(json);
    let bars: Vec<_> = parsed.regions.iter().map(|region| region.bar).collect();
    assert_eq!(
        (bars, parsed.regions[0].verdict.as_str()),
        (vec![0], "optimal")
    );
    let [failure] = &parsed.failures[..] else {
        panic!("{json:?}");
    };
    assert_eq!(failure.bar, 2);
    assert_eq!(
        (failure.error.kind.as_str(), failure.error.errno),
        ("busy", Some(16))
    );
    assert_names_the_holder(&failure.error.message);
    assert_eq!(parsed.error.as_ref(), Some(&failure.error));

    assert_told(text);
    let shown = text.stdout();
    assert!(
        shown.contains("BAR 0  4 KiB") && shown.contains("witness"),
        "{shown}"
    );
    assert!(!shown.contains("BAR 2"), "{shown}");

    // No other BAR was requested.
    assert_told(alone);
    assert!(!alone.stdout().contains("regions"), "{alone:?}");
    assert_names_the_holder(&ErrorReport::of(alone).error.message);
    assert!(free.success(), "{free:?}");
    let parsed = Report::parse(free);
    assert!(
        parsed.failures.is_empty() && parsed.error.is_none(),
        "{free:?}"
    );

    // The mapped BAR is held, and the failure is still reported.
    assert_told(held);
    assert!(maps.stdout().contains("vfio"), "{maps:?}");
    assert_told(not_held);

    for (doctor, holder) in [
        (root, "BAR 2 is held by Reserved (0x"),
        // This user sees no addresses.
        (user, "BAR 2 is held by Reserved, so"),
    ] {
        assert_step(doctor, "bar-held", "blocker", holder);
    }
}
