//! `hugebar`, the library, and the lab itself on arm64, with pages of 4, 16 and 64 KiB.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use hugebar::leaf::{GIB, KIB, MIB};
use hugebar_lab::{Arch, Command, Failure, FailureKind, HostFile, Output, Spec, Status, Thp};
use serde_json::Value;

#[path = "../vm/cells.rs"]
mod cells;
mod matrix;
mod preloaded;
#[path = "../schema/mod.rs"]
mod schema;

use schema::document;

/// A busy host must not fail a test, and usually a machine takes far less.
const LONG: Duration = Duration::from_secs(900);

fn machine(kernel: &str) -> Spec {
    Spec::new(kernel).arch(Arch::Arm64).timeout(LONG)
}

/// The program that exercises the library.
fn exercise() -> HostFile {
    let built = hugebar_lab::program_for(Arch::Arm64, "hugebar-lab-exercise", "exercise", "dev");
    HostFile {
        host: built.unwrap(),
        guest: None,
    }
}

fn command(line: &str) -> Command {
    Command::new(line.split(' '))
}

fn failure(spec: &Spec, commands: &[Command]) -> Failure {
    let error = spec.run(commands).expect_err("a failure");
    error.downcast().expect("a failure of the machine")
}

/// Output, statuses and a panic arrive as on x86-64.
#[test]
fn what_happens_in_the_guest_is_reported() {
    let spec = machine("newest").device("pci-testdev,membar=256M");
    let failure = failure(
        &spec,
        &[
            command("@cat /proc/version"),
            command("hugebar map 0000:00:10.0 --bar 2 --placement plain --require 2M"),
            command("no-such-program"),
            command("@sleep 0.1"),
            command("@write /proc/sysrq-trigger c"),
        ],
    );
    let FailureKind::Crashed(line) = &failure.kind else {
        panic!("{failure:?}");
    };
    assert!(line.contains("sysrq triggered crash"), "{line}");
    assert!(failure.to_string().contains("Call trace"), "{failure}");
    assert_eq!(failure.code(), 125);
    assert_eq!(failure.report.accelerator, "QEMU TCG");
    let commands = &failure.report.commands;
    assert!(
        commands[0].stdout().contains("-cloud-arm64 "),
        "{commands:?}"
    );
    let statuses: Vec<_> = commands.iter().map(|output| output.status).collect();
    let of_programs = [1, 127].map(|status| Some(Status::Exited(status)));
    assert_eq!(statuses[1..3], of_programs, "{commands:?}");
}

/// A guest that exceeds its time is asked for its stacks over its console.
#[test]
fn a_guest_that_hangs_is_asked_for_its_stacks() {
    let limit = Duration::from_secs(25);
    let spec = machine("newest").timeout(limit);
    let failure = failure(&spec, &[command("@sleep 1000")]);
    assert_eq!(failure.kind, FailureKind::TimedOut(limit));
    let text = failure.to_string();
    for word in ["Show State", "task:init", "hrtimer_nanosleep"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

/// A leaf size and the number of leaves.
type Leaves = [(u64, u64); 2];

/// The leaves of a machine.
struct Machine {
    kernel: &'static str,
    /// In one mapping, by the arguments of `hugebar map`.
    expected: [(&'static str, Leaves); 5],
    /// The reasons given for each.
    reasons: [&'static [&'static str]; 5],
    /// Of `exercise`, besides [`SCENARIOS`].
    more: &'static [&'static [&'static str]],
}

const WHOLE: &str = "0000:00:10.0 --bar 2";
const HOLED: &str = "0000:00:10.0 --bar 2 --exclude 0x6000+0x1000";
const PLAIN: &str = "0000:00:10.0 --bar 2 --placement plain";
const SMALL: &str = "0000:00:11.0 --bar 2";
const PAGE: &str = "0000:00:11.0 --bar 2 --exclude 0x4000+0xfffc000";

/// Linux has no leaves of 1 GiB for device memory on arm64.
const PAGES_OF_4_KIB: Machine = Machine {
    kernel: "newest",
    expected: [
        (WHOLE, [(2 * MIB, 2048), (4 * KIB, 0)]),
        (HOLED, [(2 * MIB, 2047), (4 * KIB, 511)]),
        (PLAIN, [(2 * MIB, 0), (4 * KIB, 1_048_576)]),
        (SMALL, [(2 * MIB, 128), (4 * KIB, 0)]),
        (PAGE, [(2 * MIB, 0), (4 * KIB, 4)]),
    ],
    reasons: [
        &["architecture"],
        &["architecture", "holes"],
        &["placement", "architecture"],
        &[],
        &[],
    ],
    more: &[&OF_DEBIAN],
};

/// A hole is as large as a page, at least; and the next level's leaves would have 64 GiB.
const PAGES_OF_16_KIB: Machine = Machine {
    kernel: "newest-16k",
    expected: [
        (WHOLE, [(32 * MIB, 128), (16 * KIB, 0)]),
        (HOLED, [(32 * MIB, 127), (16 * KIB, 2047)]),
        (PLAIN, [(32 * MIB, 0), (16 * KIB, 262_144)]),
        (SMALL, [(32 * MIB, 8), (16 * KIB, 0)]),
        (PAGE, [(32 * MIB, 0), (16 * KIB, 1)]),
    ],
    reasons: [&[], &["holes"], &["placement"], &[], &[]],
    more: &[&OF_DEBIAN, &OF_MANY_PAGES],
};

/// The lab kernel: Debian has none with such pages.
const PAGES_OF_64_KIB: Machine = Machine {
    kernel: "lab-64k",
    expected: [
        (WHOLE, [(512 * MIB, 8), (64 * KIB, 0)]),
        (HOLED, [(512 * MIB, 7), (64 * KIB, 8191)]),
        (PLAIN, [(512 * MIB, 0), (64 * KIB, 65_536)]),
        (SMALL, [(512 * MIB, 0), (64 * KIB, 4096)]),
        (
            "0000:00:11.0 --bar 2 --exclude 0x10000+0xfff0000",
            [(512 * MIB, 0), (64 * KIB, 1)],
        ),
    ],
    reasons: [
        &[],
        &["holes"],
        &["placement"],
        &["region-size"],
        &["region-size"],
    ],
    more: &[&OF_MANY_PAGES, &OF_IOMMUFD],
};

/// The tests of its modules, and of the kernel's rule, plans and guests, which need no kernel of arm64: as processes that QEMU
/// emulates.
#[test]
fn the_librarys_modules_pass_their_tests() {
    let unit = hugebar_lab::unit_tests_for(Arch::Arm64, "hugebar", "dev");
    let tests = ["leaf", "plan", "guest"];
    let tests = tests.map(|name| hugebar_lab::test_for(Arch::Arm64, "hugebar", name, "dev"));
    for program in [unit].into_iter().chain(tests) {
        let program = program.unwrap();
        let mut emulated = std::process::Command::new("qemu-aarch64");
        // Emulated, a property takes as long as hundreds on x86-64.
        let output = emulated.arg(&program).env("PROPTEST_CASES", "8");
        let output = output.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let name = program.display();
        assert!(output.status.success(), "{name}: {said}");
        let summary = said.lines().find(|line| line.starts_with("test result"));
        let summary = summary.unwrap_or_else(|| panic!("{name}: {said}"));
        assert!(summary.contains("; 0 failed; 0 ignored;"), "{name}: {said}");
        println!("{name}: {summary}");
    }
}

#[test]
fn with_pages_of_4_kib() {
    on(&PAGES_OF_4_KIB);
}

#[test]
fn with_pages_of_16_kib() {
    on(&PAGES_OF_16_KIB);
}

#[test]
fn with_pages_of_64_kib() {
    on(&PAGES_OF_64_KIB);
}

/// Scenarios of `exercise` on every machine: data and registers through the mapping, interrupts, resets, peer-to-peer DMA,
/// system calls that fail, and more.
///
/// Of those that x86-64 has, these make no sense on arm64: `kvm` (no KVM of arm64 pre-faults), `tables` and `watched` (its
/// kernels dump no process's tables), `fixed` and `storm` with the preloaded library (`exercise` is static there), and
/// `dma-bounds --narrow` (QEMU's SMMU has one width). `stuck`, `posing`, `jailed`, `mapped`, `limited`, `descriptors` and
/// `drive` prepare what `inspect`, `doctor` and an example see, which does not depend on the architecture.
const SCENARIOS: [&str; 10] = [
    "data 0000:00:13.0",
    "config 0000:00:12.0 0000:00:14.0",
    "irq 0000:00:12.0 0000:00:14.0 0000:00:15.0",
    "power 0000:00:12.0 0000:00:14.0",
    "handover 0000:00:10.0 0000:00:11.0",
    "decode 0000:00:10.0",
    "failures 0000:00:10.0 0000:00:11.0",
    "limit 0000:00:10.0",
    "pinned 0000:00:10.0",
    "reset 0000:00:12.0 0000:02:00.0 0000:03:00.0 0000:03:00.1 0000:06:01.0 0000:06:02.0",
];

/// Those that need reserved huge pages, or filters of files and system calls.
const OF_DEBIAN: [&str; 3] = [
    "dma 0000:00:12.0",
    "cost 0000:00:10.0",
    "sandbox 0000:01:00.0",
];

/// Those that need base pages for most of a BAR: of 4 KiB, that takes minutes on an emulated processor.
const OF_MANY_PAGES: [&str; 2] = [
    "carve 0000:00:10.0",
    "peer 0000:00:10.0 0000:00:12.0 0000:04:00.0",
];

/// Those that need iommufd, which Debian's kernels lack.
const OF_IOMMUFD: [&str; 7] = [
    "iommufd 0000:00:10.0 0000:00:11.0",
    "data 0000:00:13.0 iommufd",
    "config 0000:00:12.0 0000:00:14.0 iommufd",
    "irq 0000:00:12.0 0000:00:14.0 0000:00:15.0 iommufd",
    "power 0000:00:12.0 0000:00:14.0 iommufd",
    "peer 0000:00:10.0 0000:00:12.0 0000:04:00.0 iommufd",
    "reset 0000:00:12.0 0000:02:00.0 0000:03:00.0 0000:03:00.1 0000:06:01.0 0000:06:02.0 iommufd",
];

/// A PCI Express port, behind which devices can be reset. At a higher speed Linux waits in vain for its link after that.
fn port(number: u32) -> String {
    format!("pcie-root-port,id=port{number},chassis={number},x-speed=2_5")
}

/// Tests of the library, with the names under which they go into the guest: of mappings, and of its modules.
fn library_tests() -> [HostFile; 2] {
    let mappings = hugebar_lab::test_for(Arch::Arm64, "hugebar", "mem", "dev");
    let modules = hugebar_lab::unit_tests_for(Arch::Arm64, "hugebar", "dev");
    [(mappings, "/bin/mem"), (modules, "/bin/modules")].map(|(test, name)| HostFile {
        host: test.unwrap(),
        guest: Some(name.into()),
    })
}

/// Everything in one boot.
fn on(case: &Machine) {
    const GREETING: u64 = 0x6775_6265_6261_7221;
    let memory = tempfile::NamedTempFile::new().unwrap();
    memory.as_file().set_len(8 * MIB).unwrap();
    for offset in [0x100, 2 * MIB + 8, 4 * MIB - 8] {
        let greeting = GREETING.to_le_bytes();
        memory.as_file().write_all_at(&greeting, offset).unwrap();
    }
    let path = memory.path().display();
    let folder = tempfile::tempdir().unwrap();
    let files = preloaded::plain_program(folder.path()).into_iter();
    let spec = files
        .fold(machine(case.kernel), Spec::copy)
        .copy(exercise())
        .qemu(&format!(
            "-object memory-backend-file,id=memory,size=8M,share=on,mem-path={path}"
        ))
        .device("pci-testdev,membar=4G")
        .device("pci-testdev,membar=256M")
        .qemu("-object memory-backend-memfd,id=peer,share=on,size=4M")
        .device("edu")
        .device("ivshmem-plain,memdev=memory")
        .device("e1000e,romfile=")
        .device("nec-usb-xhci");
    // One of the first device's kind, a card alone, one beside another function, memory for a device to write into, and a
    // card beside another device on the bus inside a switch.
    let spec = (1..=5).map(port).fold(spec, Spec::device);
    let spec = [
        "pci-testdev,membar=4G,bus=port1",
        "e1000e,romfile=,bus=port2",
        "e1000e,romfile=,bus=port3,addr=0.0,multifunction=on",
        "pci-testdev,membar=64M,bus=port3,addr=0.1",
        "ivshmem-plain,memdev=peer,bus=port4",
        "x3130-upstream,id=switch,bus=port5",
        "e1000e,romfile=,bus=switch,addr=1.0",
        "pci-testdev,membar=64M,bus=switch,addr=2.0",
    ]
    .into_iter()
    .fold(spec, Spec::device);
    let spec = library_tests().into_iter().fold(spec, Spec::copy);

    let mut commands = Vec::new();
    // The kernel does not ask the policy.
    for policy in [Thp::Always, Thp::Never] {
        for (arguments, _) in &case.expected {
            let line = format!("hugebar map {arguments} --json");
            commands.push(command(&line).thp(policy));
        }
    }
    for scenario in SCENARIOS.iter().chain(case.more.iter().copied().flatten()) {
        // A hanging scenario is named.
        commands.push(command(&format!("exercise {scenario}")).time_limit(LONG / 2));
    }
    let held = commands.len();
    // Emulated, a property takes as long as hundreds on x86-64. The guest has no C compiler.
    let modules = command("modules --skip c_header").env("PROPTEST_CASES", "8");
    commands.extend([command("mem"), modules]);
    commands.extend([
        command("hugebar doctor 0000:00:10.0 --json"),
        command("hugebar map 0000:00:10.0 --bar 2 --hold").background("optimal"),
        command("hugebar inspect --json"),
        command(&format!("@signal {} 15", held + 3)),
        command(&format!("@wait {}", held + 3)),
        command("hugebar run --report /report -- plain 0000:00:10.0"),
        command("@cat /report"),
    ]);
    let report = spec.run(&commands).unwrap();

    let maps = report.commands[..10].iter().zip(commands.iter());
    let wanted = case.expected.iter().zip(case.reasons).cycle();
    for ((output, command), ((_, leaves), reasons)) in maps.zip(wanted) {
        let what = format!("{}, THP {:?}", command.argv.join(" "), command.thp);
        mapped(output, leaves, reasons, &what);
    }
    let scenarios = report.commands[10..held].iter().zip(&commands[10..]);
    let mut failed = Vec::new();
    for (output, command) in scenarios {
        println!("{:?}: {:.1?}", command.argv, output.wall);
        if !output.success() || !output.stdout().ends_with("ok\n") {
            failed.push((&command.argv, output));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    // What the guest has written is in the host's file.
    let memory = File::open(memory.path()).unwrap();
    let mut word = [0; 8];
    memory.read_exact_at(&mut word, 0x8000).unwrap();
    assert_eq!(u64::from_le_bytes(word), !GREETING ^ 0x8000);

    let [mappings, modules, doctor, _, inspect, _, _, plain, reported] = &report.commands[held..]
    else {
        panic!("{report:?}");
    };
    for tests in [mappings, modules] {
        let said = tests.stdout();
        assert!(tests.success(), "{said}");
        assert!(said.contains("; 0 failed; 0 ignored;"), "{said}");
    }
    healthy(doctor, case.expected[0].1[0].0);
    inspected(inspect, case.expected[0].1);
    preloaded::check(plain, reported, case.expected[0].1);
}

fn counts(value: &Value) -> BTreeMap<u64, u64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn mapped(output: &Output, leaves: &Leaves, reasons: &[&str], what: &str) {
    assert!(output.success(), "{what}: {output:?}");
    let report = document(output, "map");
    let sizes = [leaves[1].0, leaves[0].0];
    assert_eq!(report["leaf_sizes"], Value::from(sizes.to_vec()), "{what}");
    let region = &report["regions"][0];
    assert_eq!(region["populated_by"], "type1", "{what}");
    let leaves = BTreeMap::from(*leaves);
    assert_eq!(counts(&region["measured"]), leaves, "{what}");
    assert_eq!(counts(&region["expected"]), leaves, "{what}");
    let verdict = if reasons.contains(&"placement") {
        "as-expected"
    } else {
        "optimal"
    };
    assert_eq!(region["verdict"], verdict, "{what}");
    let found = region["reasons"].as_array().unwrap();
    let codes: Vec<_> = found
        .iter()
        .map(|one| one["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, reasons, "{what}");
    for reason in found {
        let text = reason.to_string();
        assert!(!text.contains("pdpe1gb") && !text.contains("x86"), "{text}");
    }
}

/// The path from firmware to mapping is healthy, and nothing is named that x86-64 alone has.
fn healthy(output: &Output, largest: u64) {
    let text = output.stdout();
    assert!(output.success(), "{text}");
    for foreign in ["intel", "VT-d", "AMD", "DMAR", "x86"] {
        assert!(!text.contains(foreign), "{foreign}: {text}");
    }
    let fact = |step: &str| {
        let report = document(output, "doctor");
        let steps = report["steps"].as_array().unwrap();
        let own = steps.iter().find(|one| one["step"] == step);
        let own = own.unwrap_or_else(|| panic!("{step}: {text}"));
        own["fact"].as_str().unwrap().to_owned()
    };
    assert!(fact("iommu").starts_with("on: smmu3."), "{text}");
    let leaves = format!("has leaves up to {} MiB", largest / MIB);
    assert!(fact("kernel").contains(&leaves), "{text}");
    assert_eq!(fact("driver"), "vfio-pci");
}

/// Another process finds the mapping, and judges it by the size of its page tables.
fn inspected(output: &Output, leaves: Leaves) {
    assert!(output.success(), "{output:?}");
    let report = document(output, "inspect");
    let mapping = &report["processes"][0]["mappings"][0];
    assert_eq!(mapping["device"], "0000:00:10.0", "{report}");
    assert_eq!(mapping["size"], 4 * GIB);
    assert_eq!(counts(&mapping["possible"]), BTreeMap::from(leaves));
    assert_eq!(mapping["judgement"], "optimal", "{report}");
    assert_eq!(mapping["not_in_base_pages"], true, "{report}");
}
