//! Commands that see only a part of the system, or cannot write their output: hidden things are not assumed
//! absent, and failed output does not change the answer.

use hugebar_lab::{Command, Output, Spec};

use crate::report::{ErrorReport, machine, map};

fn with_shell(kernel: &str) -> Spec {
    ["/bin/sh", "/bin/mount", "/usr/bin/unshare"]
        .iter()
        .fold(machine(kernel), |spec, program| {
            spec.copy(program.parse().unwrap())
        })
}

fn shell(script: &str) -> Command {
    Command::new(["sh", "-c", script])
}

/// Runs a command with an empty folder in place of another.
fn without(folder: &str, command: &str) -> Command {
    shell(&format!(
        "unshare -m sh -c 'mount --bind /run {folder} && {command}'"
    ))
}

fn assert_says(output: &Output, code: i32, words: &str) {
    let text = output.stdout() + output.stderr();
    assert_eq!(output.code(), code, "{output:?}");
    assert!(text.contains(words), "{words:?} is not in {text}");
}

#[test]
fn what_is_not_seen_is_not_taken_for_absent() {
    let in_namespace = |command: &str| shell(&format!("unshare -p -f --mount-proc {command}"));
    let report = with_shell("newest")
        .run(&[
            map("0000:00:10.0 --bar 2 --hold").background("optimal"),
            in_namespace("hugebar inspect"),
            in_namespace("hugebar inspect --require optimal"),
            in_namespace("hugebar doctor 0000:00:10.0"),
            without("/proc", "hugebar inspect"),
            without("/proc", "hugebar doctor"),
            without("/sys/class", "hugebar doctor"),
            without("/sys/kernel/iommu_groups", "hugebar doctor 0000:00:10.0"),
            without("/sys/bus/pci", "hugebar map 0000:00:10.0"),
            without("/dev/vfio", "hugebar map 0000:00:10.0"),
            Command::new(["hugebar", "inspect"]),
            without("/sys/bus/pci", "hugebar doctor"),
        ])
        .unwrap();
    let hidden = "processes outside of this PID namespace are hidden";
    let warned = format!("warning: --require: {hidden}");
    for (index, code, words) in [
        (1, 0, hidden),
        (2, 1, &warned),
        (3, 0, hidden),
        (4, 2, "/proc/self: No such file"),
        (5, 2, "/proc/self: No such file"),
        (6, 0, "on: devices are in IOMMU groups"),
        (7, 1, "show this process /sys/kernel/iommu_groups"),
        (8, 2, "show this process /sys"),
        (9, 2, "pass the node into this container or jail"),
        (10, 0, "process "),
        (11, 0, "ok      vfio                /dev/vfio/vfio"),
    ] {
        assert_says(&report.commands[index], code, words);
    }
    assert!(!report.commands[10].stdout().contains("hidden"));
}

#[test]
fn what_cannot_be_said_does_not_change_the_answer() {
    let report = with_shell("newest")
        .run(&[
            shell("hugebar doctor nosuch 2>/dev/full"),
            shell("hugebar map nosuch --json 2>/dev/full"),
            shell("hugebar map 0000:00:10.0 --bar 0 --require 1G 2>/dev/full"),
            shell("hugebar map 0000:00:10.0 --bar 0 -v --json 2>/dev/full"),
            shell("hugebar map 0000:00:10.0 >/dev/full"),
            shell("hugebar map 0000:00:10.0 >/dev/full 2>/dev/full"),
            shell("hugebar --version >/dev/full"),
        ])
        .unwrap();
    let codes: Vec<_> = report.commands.iter().map(Output::code).collect();
    assert_eq!(codes, [2, 2, 1, 0, 2, 2, 2], "{report:?}");
    assert_eq!(
        ErrorReport::of(&report.commands[1]).error.kind,
        "invalid-input"
    );
    assert!(report.commands[3].stdout().contains("\"optimal\""));
}

/// As under `nohup`.
#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let held = "trap '' HUP; exec hugebar map 0000:00:10.0 --bar 2 --hold";
    let report = with_shell("newest")
        .run(&[
            shell(held).background("optimal"),
            Command::new(["@signal", "0", "1"]),
            // Longer than it takes to notice a signal.
            Command::new(["@sleep", "0.5"]),
            Command::new(["@cat", "/proc/{pid:0}/maps"]),
            Command::new(["@signal", "0", "15"]),
            Command::new(["@wait", "0"]),
        ])
        .unwrap();
    assert_says(&report.commands[3], 0, "vfio");
    assert!(report.commands[0].success(), "{report:?}");
}
