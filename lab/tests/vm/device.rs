//! The library on the lab's devices: scenarios of the program `exercise`.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::report::{LONG, machine};
use hugebar_lab::capi::{Installed, Link};
use hugebar_lab::{Command, HostFile, Report, Spec};

/// A machine that has the program on its `PATH`.
pub(crate) fn with_exercise(kernel: &str) -> Spec {
    let program = hugebar_lab::program("hugebar-lab-exercise", "exercise", "dev").unwrap();
    machine(kernel).copy(HostFile {
        host: program,
        guest: None,
    })
}

/// Adds a program in C that uses the installed library (`crates/hugebar-capi/tests/c`).
pub(crate) fn with_c(spec: Spec, name: &str) -> Spec {
    let installed = Installed::get().unwrap();
    let source = format!("tests/c/{name}.c");
    let program = installed.program(&source, Link::Shared).unwrap();
    spec.copy(installed.library()).copy(HostFile {
        host: program,
        guest: Some(format!("/bin/{name}")),
    })
}

fn exercise(arguments: &str) -> Command {
    let words = ["exercise"].into_iter();
    // A hanging scenario is named, and the machine goes on.
    Command::new(words.chain(arguments.split_whitespace())).time_limit(LONG / 2)
}

/// Runs scenarios, each of which checks its own result.
fn all_well(spec: &Spec, scenarios: &[Command]) {
    let report = spec.run(scenarios).unwrap();
    for output in &report.commands {
        assert!(
            output.success() && output.stdout().ends_with("ok\n"),
            "{output:?}"
        );
    }
}

/// Populated mappings are carved, dropped and re-made without an oops (which would end the guest),
/// each system call fails once, and descriptors are passed on.
fn paces(kernel: &str, more: &[Command]) {
    let mut scenarios = vec![
        exercise("carve 0000:00:10.0"),
        exercise("failures 0000:00:10.0 0000:00:11.0"),
        exercise("handover 0000:00:10.0 0000:00:11.0"),
        exercise("limit 0000:00:10.0"),
        exercise("pinned 0000:00:10.0"),
    ];
    scenarios.extend_from_slice(more);
    all_well(&many_devices(kernel), &scenarios);
}

/// And QEMU's teaching device, a card with MSI-X, a device with a large BAR behind a bridge (bus 01), so that it can
/// be reset, and a USB controller with several MSI vectors.
fn many_devices(kernel: &str) -> Spec {
    with_exercise(kernel)
        .device("pci-testdev,membar=4G")
        .device("pci-testdev,membar=4G")
        .device("edu")
        .device("e1000e")
        .device(port(1))
        .device("pci-testdev,membar=4G,bus=port1")
        .device("nec-usb-xhci")
}

/// A PCI Express port. At a higher speed Linux waits in vain for its link after a reset.
fn port(number: u32) -> String {
    format!("pcie-root-port,id=port{number},chassis={number},x-speed=2_5")
}

/// What drivers need beside memory.
fn managed(backend: &str) -> Vec<Command> {
    [
        "irq 0000:00:12.0 0000:00:13.0 0000:00:15.0",
        "config 0000:00:12.0 0000:00:13.0",
        "power 0000:00:12.0 0000:00:13.0",
    ]
    .iter()
    .map(|scenario| exercise(&format!("{scenario} {backend}")))
    .collect()
}

/// QEMU's teaching device on the root bus, a card alone behind a bridge, one beside a second function, and one beside
/// another device on the bus inside a switch: this has access control, so each is a group of its own.
fn with_buses(kernel: &str) -> Spec {
    with_exercise(kernel)
        .device("edu")
        .device(port(1))
        .device(port(2))
        .device(port(3))
        .device("e1000e,bus=port1")
        .device("e1000e,bus=port2,addr=0.0,multifunction=on")
        .device("pci-testdev,membar=64M,bus=port2,addr=0.1")
        .device("x3130-upstream,id=switch,bus=port3")
        .device("e1000e,bus=switch,addr=1.0")
        .device("pci-testdev,membar=64M,bus=switch,addr=2.0")
}

fn resets(backend: &str) -> Command {
    let devices = "0000:00:10.0 0000:01:00.0 0000:02:00.0 0000:02:00.1 0000:04:01.0 0000:04:02.0";
    exercise(&format!("reset {devices} {backend}"))
}

/// The card by a program in C.
fn card(backend: &str) -> Command {
    let words = format!("card 0000:02:00.0 0000:02:00.1 {backend}");
    Command::new(words.split(' ').map(str::to_owned))
}

#[test]
fn resets_on_6_1() {
    all_well(&with_buses("6.1"), &[resets("type1")]);
}

#[test]
fn resets_on_6_12() {
    let spec = with_c(with_buses("6.12"), "card");
    all_well(&spec, &[resets("type1"), card("type1")]);
}

#[test]
fn resets_on_the_newest() {
    let both = [resets("type1"), resets("iommufd"), card("iommufd")];
    all_well(&with_c(with_buses("lab"), "card"), &both);
}

#[test]
fn resets_without_an_iommu() {
    all_well(&with_buses("lab").append(NO_IOMMU), &[resets("noiommu")]);
}

/// Words for the kernel that turn the IOMMU off, and allow devices without it.
const NO_IOMMU: &str = "intel_iommu=off vfio.enable_unsafe_noiommu_mode=1";

#[test]
fn paces_on_6_12() {
    let mut more = managed("type1");
    more.push(exercise("sandbox 0000:01:00.0"));
    more.push(exercise("dma 0000:00:12.0"));
    more.push(exercise("cost 0000:00:10.0"));
    paces("6.12", &more);
}

#[test]
fn paces_on_the_newest() {
    paces("newest", &[]);
}

/// Faults of other causes are no leaves: threads that fork, and a kernel that moves memory between nodes.
fn beside_threads(kernel: &str) {
    let nodes = "-object memory-backend-ram,id=m0,size=512M -object memory-backend-ram,id=m1,size=512M \
                 -numa node,memdev=m0,cpus=0 -numa node,memdev=m1,cpus=1";
    let spec = with_exercise(kernel)
        .device("pci-testdev,membar=4G")
        .qemu(nodes)
        .append("numa_balancing=enable");
    all_well(&spec, &[exercise("threads 0000:00:10.0")]);
}

#[test]
fn beside_threads_on_6_1() {
    beside_threads("6.1");
}

#[test]
fn beside_threads_on_6_12() {
    beside_threads("6.12");
}

#[test]
fn beside_threads_on_the_newest() {
    beside_threads("newest");
}

/// The same steps also work on a kernel without huge leaves.
#[test]
fn paces_on_6_1() {
    paces("6.1", &managed("type1"));
}

/// Devices by their own nodes and iommufd: shared, moved, passed on, in use; and an iommufd that
/// answers like a container.
#[test]
fn by_iommufd() {
    let mut scenarios = vec![
        exercise("iommufd 0000:00:10.0 0000:00:11.0"),
        exercise("carve 0000:00:10.0 iommufd"),
        exercise("failures 0000:00:10.0 0000:00:11.0 iommufd"),
        exercise("decode 0000:00:10.0 iommufd"),
        exercise("sandbox 0000:01:00.0 iommufd"),
        exercise("dma 0000:00:12.0 iommufd"),
        exercise("cost 0000:00:10.0"),
        exercise("cost 0000:00:10.0 iommufd"),
        exercise("counting 0000:00:10.0"),
        // And by group on the same kernel.
        exercise("handover 0000:00:10.0 0000:00:11.0"),
    ];
    scenarios.extend(managed("iommufd"));
    scenarios.extend(managed("type1"));
    all_well(&many_devices("lab"), &scenarios);
}

/// README's example: a BAR in one call, and its result.
#[test]
fn the_example_maps_a_bar() {
    let example = hugebar_lab::example("hugebar", "map_bar", "dev").unwrap();
    let map = |arguments: &str| {
        let words = ["map_bar", "0000:00:10.0"].into_iter();
        Command::new(words.chain(arguments.split_whitespace()))
    };
    let report = machine("newest")
        .device("pci-testdev,membar=4G")
        .copy(HostFile {
            host: example,
            guest: None,
        })
        .run(&[map("2"), map("5"), map("")])
        .unwrap();
    let [mapped, absent, usage] = &report.commands[..] else {
        panic!("{report:?}");
    };
    let lines = mapped.stdout();
    assert!(mapped.success(), "{mapped:?}");
    assert!(lines.starts_with("0x0+0x100000000 at 0x"), "{lines}");
    assert!(lines.ends_with("\nOptimal: 4 × 1 GiB\n"), "{lines}");
    let said = absent.stderr();
    for part in ["the device has no such region", "0000:00:10.0 BAR 5"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!((absent.code(), usage.code()), (1, 1));
}

/// The example of a driver, by both backends.
#[test]
fn the_example_drives_a_device() {
    let example = HostFile {
        host: hugebar_lab::example("hugebar", "edu", "dev").unwrap(),
        guest: None,
    };
    let drive = |words: &str| Command::new(words.split(' '));
    let report = machine("lab")
        .device("edu")
        .copy(example)
        .run(&[drive("edu 0000:00:10.0"), drive("edu 0000:00:10.0 iommufd")])
        .unwrap();
    for (output, backend) in report.commands.iter().zip(["type1", "iommufd"]) {
        assert!(output.success(), "{output:?}");
        let lines =
            format!("class 0x00ff00, opened by {backend}\n10! = 3628800\nthere and back again\n");
        assert_eq!(output.stdout(), lines);
    }
}

/// Without an IOMMU, where that is allowed and requested.
#[test]
fn without_an_iommu() {
    let mut scenarios = vec![
        exercise("carve 0000:00:10.0 noiommu"),
        exercise("failures 0000:00:10.0 0000:00:11.0 noiommu"),
    ];
    scenarios.extend(managed("noiommu"));
    all_well(&many_devices("lab").append(NO_IOMMU), &scenarios);
}

/// Reads and writes reach the device: a file on this host, checked from both sides.
#[test]
fn data_reaches_the_device() {
    // And the example, through a descriptor of vfio-ioctls.
    let example = HostFile {
        host: hugebar_lab::example("hugebar", "vfio_ioctls", "dev").unwrap(),
        guest: None,
    };
    let commands = [
        exercise("data 0000:00:10.0"),
        Command::new("vfio_ioctls 0000:00:10.0 2 0x100 0x55667788".split(' ')),
        Command::new("vfio_ioctls 0000:00:10.0 2 0x100".split(' ')),
    ];
    let report = reads_and_writes(with_exercise("newest").copy(example), &commands);
    for shown in &report.commands[1..] {
        let line = "0x55667788 by the mapping, 0x55667788 by vfio-ioctls\n";
        assert!(shown.stdout().ends_with(line), "{shown:?}");
    }
}

#[test]
fn data_reaches_the_device_by_iommufd() {
    reads_and_writes(
        with_exercise("lab"),
        &[exercise("data 0000:00:10.0 iommufd")],
    );
}

/// The first command is `exercise data`.
fn reads_and_writes(spec: Spec, commands: &[Command]) -> Report {
    const GREETING: u64 = 0x6775_6265_6261_7221;
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(8 << 20).unwrap();
    for offset in [0x100, (2 << 20) + 8, (4 << 20) - 8] {
        file.as_file()
            .write_all_at(&GREETING.to_le_bytes(), offset)
            .unwrap();
    }
    let path = file.path().display();
    let report = spec
        .qemu(&format!(
            "-object memory-backend-file,id=memory,share=on,size=8M,mem-path={path}"
        ))
        .device("ivshmem-plain,memdev=memory")
        .run(commands)
        .unwrap();
    for output in &report.commands {
        assert!(output.success(), "{output:?}");
    }
    let host = File::open(file.path()).unwrap();
    let word = |offset| {
        let mut bytes = [0; 8];
        host.read_exact_at(&mut bytes, offset).unwrap();
        u64::from_le_bytes(bytes)
    };
    for offset in [0, 0x8000, 2 << 20, (4 << 20) - 16] {
        assert_eq!(word(offset), !GREETING ^ offset, "{offset:#x}");
    }
    assert_eq!(word(0x6000), 0, "nothing else was written");
    report
}
