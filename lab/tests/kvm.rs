//! KVM in the lab's guest, on an emulated processor that supports it: counts by pre-faults, and the
//! leaves of the second stage.

use std::path::PathBuf;
use std::time::Duration;

use hugebar_lab::cache::Cache;
use hugebar_lab::debian::QEMU_7_2;
use hugebar_lab::nested;
use hugebar_lab::{Command, HostFile, Output, Spec, Status};
use serde_json::Value;

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
    let spec = machine(program).device("pci-testdev,membar=1G");
    let mut commands = vec![command("exercise kvm 0000:00:10.0")];
    commands.extend(
        TOUCHED
            .iter()
            .map(|(options, ..)| command(&format!("exercise touch 0000:00:11.0 {options}"))),
    );
    let report = spec.run(&commands).unwrap();
    for (output, touched) in report.commands[1..].iter().zip(TOUCHED) {
        touches(output, touched);
    }
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

/// A way of mapping a BAR of 1 GiB, KVM's leaves once a guest has touched every 2 MiB of it (of 1 GiB, 2 MiB, and 4 KiB), and
/// whether all of it is in base pages.
type Touched = (&'static str, [u64; 3], bool);

const TOUCHED: [Touched; 4] = [
    ("--by hugebar", [1, 0, 0], false),
    ("--by hugebar --hole", [0, 511, 1], false),
    ("--by cloud-hypervisor", [1, 0, 0], false),
    ("--by cloud-hypervisor --hole", [0, 0, 512], true),
];

fn touches(output: &Output, (options, leaves, base): Touched) {
    let line = &lines(output)[0];
    let document: Value = serde_json::from_str(line).unwrap();
    let counted = ["1073741824", "2097152", "4096"].map(|size| {
        let count = &document["guest_leaves"][size];
        count.as_u64().unwrap_or_else(|| panic!("{line}"))
    });
    assert_eq!(counted, leaves, "{options}: {line}");
    // Entries of 8 bytes.
    let tables = document["page_tables"].as_u64().unwrap();
    assert_eq!(tables >= 262_143 * 8, base, "{options}: {line}");
}

/// A QEMU that nobody has changed, by `hugebar run` and alone: KVM has leaves in the second stage as QEMU's addresses allow,
/// once its guest has read from every 2 MiB.
#[test]
fn the_guest_of_debians_qemu_gets_qemus_leaves() {
    const DEVICE: &str = "0000:00:10.0";
    const LOOKS: usize = 6;
    let program = hugebar_lab::program("hugebar-lab-exercise", "exercise", "dev").unwrap();
    let library =
        hugebar_lab::shared_library("hugebar-preload", "hugebar_preload", "release").unwrap();
    let qemu = QEMU_7_2.get(&Cache::open().unwrap()).unwrap();
    let alone = nested::touching(&qemu, DEVICE, "/firmware");
    let mut by_run = alone.clone();
    by_run
        .argv
        .splice(..0, ["hugebar", "run", "--"].map(str::to_owned));
    let mut commands = vec![command("exercise firmware /firmware")];
    for started in [by_run, alone] {
        let own = commands.len();
        commands.push(started);
        for line in [
            "@cat /sys/kernel/debug/kvm/pages_1g".to_owned(),
            "@cat /sys/kernel/debug/kvm/pages_2m".to_owned(),
            format!("hugebar inspect {{pid:{own}}} --json"),
            format!("@signal {own} 15"),
            format!("@wait {own}"),
        ] {
            commands.push(command(&line));
        }
    }
    let report = machine(program)
        .copy(HostFile {
            host: library,
            guest: Some("/bin/".into()),
        })
        .copy(qemu.files())
        .run(&commands)
        .unwrap();
    let mut all = Vec::new();
    for looks in report.commands[1..].chunks(LOOKS) {
        assert!(looks[0].stdout().ends_with(nested::TOUCHED), "{looks:?}");
        let count = |output: &Output| lines(output)[0].parse::<u64>().unwrap();
        let by_kvm = [count(&looks[1]), count(&looks[2])];
        let document: Value = serde_json::from_str(&looks[3].stdout()).unwrap();
        let mappings = document["processes"][0]["mappings"].as_array().unwrap();
        let large = mappings.iter().find(|own| own["size"] == 4_u64 << 30);
        let possible = &large.unwrap_or_else(|| panic!("{document}"))["possible"];
        let by_address = ["1073741824", "2097152"].map(|size| possible[size].as_u64().unwrap());
        println!("{by_kvm:?}, {}", looks[0].stdout());
        assert_eq!(by_kvm, by_address, "{looks:?}");
        all.push(by_kvm);
    }
    assert_eq!(all[0], [4, 0], "{all:?}");
    assert!([[4, 0], [0, 2048]].contains(&all[1]), "{all:?}");
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
