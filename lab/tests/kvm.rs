//! KVM in the lab's guest, on an emulated processor that supports it: counts by pre-faults, and the
//! leaves of the second stage.

use std::path::PathBuf;
use std::time::Duration;

use hugebar_lab::{Command, HostFile, Output, Spec, Status};

fn machine(program: PathBuf) -> Spec {
    Spec::new("lab")
        .emulated()
        .device("pci-testdev,membar=4G")
        .copy(HostFile {
            host: program,
            guest: None,
        })
        .timeout(Duration::from_secs(240))
}

fn command(line: &str) -> Command {
    Command::new(line.split_whitespace())
}

/// The output lines of a successful program.
fn lines(output: &Output) -> Vec<String> {
    assert!(output.success(), "{output:?}");
    output.stdout().lines().map(str::to_owned).collect()
}

/// A census by KVM, guest addresses, slots, passed descriptors, and each system call failing once.
#[test]
fn counts_and_guest_addresses() {
    let program = hugebar_lab::program("hugebar-lab-exercise", "exercise", "dev").unwrap();
    let spec = machine(program);
    let report = spec.run(&[command("exercise kvm 0000:00:10.0")]).unwrap();
    let lines = lines(&report.commands[0]);
    let hole = "3 × 1 GiB + 511 × 2 MiB + 511 × 4 KiB";
    for line in [
        "census whole: 4 × 1 GiB".to_owned(),
        format!("census hole: {hole}"),
        "guest address 0x1000000000, []: 4 × 1 GiB".to_owned(),
        "guest address 0x1000200000, []: 2048 × 2 MiB".to_owned(),
        format!("guest address 0x1000000000, []: {hole}"),
        "ok".to_owned(),
    ] {
        assert!(lines.contains(&line), "{line:?} is not in {lines:#?}");
    }
}

/// The example predicts KVM's leaves.
#[test]
fn the_example_gives_a_bar_to_a_guest() {
    let program = hugebar_lab::example("hugebar", "vmm", "dev").unwrap();
    let example = |arguments: &str| command(&format!("vmm 0000:00:10.0 --bar 2 {arguments}"));
    let report = machine(program)
        .run(&[
            example(""),
            example("--guest-offset 2M"),
            example("--exclude 0x6000+0x1000"),
            example("--exclude 24K+16 --exclude 1G+3G --guest-offset 0x1000"),
            example("--exclude 4G+4K"),
            example("--guest-offset 7"),
            command("vmm --help"),
        ])
        .unwrap();
    let [congruent, off, hole, pages, outside, unaligned, usage] = &report.commands[..] else {
        panic!("{report:?}");
    };
    for (output, foretold, counted) in [
        (congruent, "4 × 1 GiB", "pages_1g=4 pages_2m=0 pages_4k=0"),
        (off, "2048 × 2 MiB", "pages_1g=0 pages_2m=2048 pages_4k=0"),
        (
            hole,
            "3 × 1 GiB + 511 × 2 MiB + 511 × 4 KiB",
            "pages_1g=3 pages_2m=511 pages_4k=511",
        ),
        (
            pages,
            "262143 × 4 KiB",
            "pages_1g=0 pages_2m=0 pages_4k=262143",
        ),
    ] {
        let lines = lines(output);
        assert!(
            lines.contains(&format!("predicted: {foretold}")),
            "{lines:#?}"
        );
        let kvm = lines.iter().any(|line| line.contains(counted));
        assert!(kvm, "{counted}: {lines:#?}");
    }
    let better = "better: 0x1000000000 below, 0x1040000000 above: 4 × 1 GiB".to_owned();
    assert!(lines(off).contains(&better), "{off:?}");
    assert!(!congruent.stdout().contains("better"), "{congruent:?}");
    assert_eq!(
        lines(hole)
            .iter()
            .filter(|line| line.starts_with("slot "))
            .count(),
        2
    );
    assert!(
        outside.stderr().contains("0x100000000+0x1000"),
        "{outside:?}"
    );
    assert!(
        unaligned.stderr().contains("a slot must start at a page"),
        "{unaligned:?}"
    );
    assert!(usage.stderr().contains("--guest-offset"), "{usage:?}");
    for output in [outside, unaligned, usage] {
        assert_eq!(output.status, Some(Status::Exited(2)), "{output:?}");
    }
}
