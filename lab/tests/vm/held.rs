//! A BAR that another resource of the machine has: it opens well, and cannot be mapped.

use hugebar_lab::{Command, Output, Spec};

use crate::doctor::{assert_step, doctor};
use crate::report::{ErrorReport, Report, machine, map, map_json};

const DEVICE: &str = "0000:00:10.0";

/// BAR 2 is as large as half of what the kernel's command line sets a part aside of each: wherever firmware places it,
/// there is one in its middle. BAR 0 is free.
fn with_reserved_memory(kernel: &str) -> Spec {
    const TIB: u64 = 1 << 40;
    let size = 16 * TIB;
    let middles = (0..8).map(|block| block * size + size / 2);
    middles.fold(
        machine(kernel).device("pci-testdev,membar=16T"),
        |spec, middle| spec.append(format!("memmap=64K${middle:#x}")),
    )
}

/// Who has BAR 2, and what is to be done.
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

    // Nothing else was asked for.
    assert_told(alone);
    assert!(!alone.stdout().contains("regions"), "{alone:?}");
    assert_names_the_holder(&ErrorReport::of(alone).error.message);
    assert!(free.success(), "{free:?}");
    let parsed = Report::parse(free);
    assert!(
        parsed.failures.is_empty() && parsed.error.is_none(),
        "{free:?}"
    );

    // What could be mapped is kept, and the failure is not forgotten.
    assert_told(held);
    assert!(maps.stdout().contains("vfio"), "{maps:?}");
    assert_told(not_held);

    for (doctor, holder) in [
        (root, "BAR 2 is held by Reserved (0x"),
        // Addresses are hidden from this one.
        (user, "BAR 2 is held by Reserved, so"),
    ] {
        assert_step(doctor, "bar-held", "blocker", holder);
    }
}
