//! `hugebar doctor` on hosts that are ready and on hosts that are not.

use hugebar_lab::{Command, Output, Thp};
use serde::Deserialize;

use crate::device::with_exercise;
use crate::report::{Report as Mapped, kernel_that_asks, machine, map, version};
use crate::schema::document;

#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    version: u32,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Step {
    pub(crate) step: String,
    status: String,
    fact: String,
    remedy: Option<String>,
}

pub(crate) fn doctor(arguments: &str) -> Command {
    let words = ["hugebar", "doctor", "--json"].into_iter();
    Command::new(words.chain(arguments.split_whitespace()))
}

pub(crate) fn report_of(output: &Output) -> Report {
    let report: Report = serde_json::from_value(document(output, "doctor")).unwrap();
    assert_eq!(report.version, 1);
    let blocked = report.steps.iter().any(|step| step.status == "blocker");
    assert_eq!(output.code(), i32::from(blocked), "{output:?}");
    report
}

/// Checks the steps of one status, in order.
pub(crate) fn assert_steps(output: &Output, status: &str, steps: &[&str]) {
    let report = report_of(output);
    let found = report.steps.iter().filter(|step| step.status == status);
    let found: Vec<_> = found.map(|step| step.step.as_str()).collect();
    assert_eq!(found, steps, "{status}: {output:?}");
}

/// Checks a step's status, that its fact contains some words, and that it has a remedy unless it is ok.
pub(crate) fn assert_step(output: &Output, name: &str, status: &str, words: &str) {
    let report = report_of(output);
    let step = report.steps.iter().find(|step| step.step == name);
    let step = step.unwrap_or_else(|| panic!("{name}: {output:?}"));
    assert_eq!(step.status, status, "{step:?}");
    assert!(step.fact.contains(words), "{words:?} is not in {step:?}");
    assert_eq!(step.remedy.is_none(), status == "ok", "{step:?}");
}

/// The IOMMU group of the only device.
const GROUP: &str = "/sys/bus/pci/devices/0000:00:10.0/iommu_group";

/// The number of the group in a link's target.
fn number(link: &Output) -> u32 {
    let path = link.stdout();
    let name = path.trim_end().rsplit('/').next();
    name.and_then(|name| name.parse().ok())
        .unwrap_or_else(|| panic!("no group: {link:?}"))
}

/// A healthy device, as root and other users see it, and a device in use.
fn in_use_and_free(kernel: &str, backend: &str, node: &str, with: &str) {
    let as_user = |memlock: u64| {
        let words = format!(
            "exercise limited --uid 1000 --memlock {memlock} hugebar doctor --json 0000:00:10.0"
        );
        Command::new(words.split(' '))
    };
    // By any backend that this user may open.
    let map_as_user = "exercise limited --uid 1000 hugebar map --json 0000:00:10.0 --bar 2";
    let map_as_user = Command::new(map_as_user.split(' '));
    let only_mapped = format!("exercise mapped --close --backend {backend} 0000:00:10.0");
    let only_mapped = Command::new(only_mapped.split(' '));
    let report = with_exercise(kernel)
        .run(&[
            doctor("0000:00:10.0").thp(Thp::Always),
            doctor(""),
            doctor("0000:00:10.0").uid(1000),
            map(&format!("0000:00:10.0 --bar 2 --hold --backend {backend}"))
                .thp(Thp::Madvise)
                .background("BAR 2"),
            doctor("0000:00:10.0"),
            Command::new(["@signal", "3", "15"]),
            Command::new(["@wait", "3"]),
            Command::new(["@chown", "1000", node, with]),
            as_user(64 << 10),
            as_user(256 << 20),
            as_user(4 << 30),
            map_as_user,
            // A process that has kept only a mapping.
            only_mapped.background("mapped"),
            doctor("0000:00:10.0"),
            map("0000:00:10.0 --bar 2"),
            Command::new(["@signal", "12", "15"]),
            Command::new(["@wait", "12"]),
            // The state in which firmware and other drivers leave it.
            Command::new(["exercise", "decode-off", "0000:00:10.0"]),
            doctor("0000:00:10.0"),
            map("0000:00:10.0 --bar 2 --require optimal"),
            Command::new(["exercise", "decode", "0000:00:10.0"]),
            Command::new(["hugebar", "doctor", "0000:00:10.0"]),
            doctor("0000:00:1e.7"),
            Command::new(["@readlink", GROUP]),
        ])
        .unwrap();
    let [
        healthy,
        host,
        user,
        _,
        held,
        _,
        _,
        _,
        low,
        owner,
        plenty,
        opened,
        _,
        mapped,
        busy,
        _,
        _,
        switched_off,
        decode_off,
        again,
        decode,
        text,
        nowhere,
        group,
    ] = &report.commands[..]
    else {
        panic!("{report:?}");
    };
    // QEMU's test device cannot be reset.
    assert_steps(healthy, "blocker", &[]);
    assert_steps(healthy, "warning", &["reset"]);
    assert_step(healthy, "open", "ok", "no process has it open");
    assert_step(healthy, "interrupt-remapping", "ok", "on");
    assert_step(healthy, "memlock", "ok", "CAP_IPC_LOCK");
    assert_step(healthy, "bar-size", "ok", "no BAR can be resized");
    assert_steps(host, "warning", &[]);
    assert!(!host.stdout().contains("\"driver\""), "{host:?}");
    // The default limit is too low.
    assert_steps(user, "blocker", &["memlock", "node"]);
    assert_steps(user, "warning", &["reset"]);
    assert_step(user, "memlock", "blocker", "only 8 MiB");
    assert_step(user, "open", "ok", "<needs root>");
    assert_step(user, "node", "blocker", node);
    assert_step(user, "bar-size", "ok", "no BAR can be resized");
    assert_steps(held, "blocker", &["open"]);
    assert_step(held, "open", "blocker", "(hugebar)");
    assert_steps(low, "blocker", &["memlock"]);
    assert_step(low, "memlock", "blocker", "only 64 KiB");
    assert_steps(owner, "blocker", &[]);
    assert_steps(owner, "warning", &["memlock", "reset"]);
    assert_step(owner, "node", "ok", node);
    assert_steps(plenty, "warning", &["reset"]);
    let opened = Mapped::parse(opened);
    assert_eq!(opened.backend, backend);
    // For a user who may not use KVM, only a container populates.
    let verdict = match backend {
        "iommufd" => ("unmeasured", vec!["no-populate"]),
        _ => ("optimal", vec![]),
    };
    let region = &opened.regions[0];
    assert_eq!((region.verdict.as_str(), region.codes()), verdict);
    // Opened by its own node, the mapping identifies the device; otherwise it may be of any device of that size.
    let (status, words) = match backend {
        "iommufd" => ("blocker", "(exercise) has it mapped"),
        _ => ("warning", "(exercise) has a device mapped"),
    };
    assert_step(mapped, "open", status, words);
    assert_eq!(busy.code(), 2, "{busy:?}");
    for output in [switched_off, again, decode] {
        assert!(output.success(), "{output:?}");
    }
    assert_steps(decode_off, "blocker", &[]);
    assert!(decode.stdout().contains("decode-off"), "{decode:?}");
    let viable = format!("group {} is viable", number(group));
    assert!(
        text.success() && text.stdout().contains(&viable),
        "{text:?}"
    );
    assert_eq!(nowhere.code(), 2, "{nowhere:?}");
}

#[test]
fn by_group() {
    // The number depends on the other devices, so find it out first.
    let group = Command::new(["@readlink", GROUP]);
    let report = with_exercise("newest").run(&[group]).unwrap();
    let node = format!("/dev/vfio/{}", number(&report.commands[0]));
    in_use_and_free("newest", "type1", &node, "/dev/vfio/vfio");
}

#[test]
fn by_its_own_node() {
    in_use_and_free("lab", "iommufd", "/dev/vfio/devices/vfio0", "/dev/iommu");
}

#[test]
fn iommu_off() {
    let report = machine("newest")
        .append("intel_iommu=off")
        .no_bind()
        .run(&[doctor("0000:00:10.0"), doctor("")])
        .unwrap();
    let [device, host] = &report.commands[..] else {
        panic!("{report:?}");
    };
    assert_steps(device, "blocker", &["iommu", "driver", "group"]);
    assert_steps(host, "blocker", &["iommu"]);
    assert!(host.stdout().contains("intel_iommu=on"), "{host:?}");
}

/// A host that has never used VFIO: loading modules comes before binding.
#[test]
fn nothing_is_loaded() {
    let report = machine("newest")
        .no_modules()
        .run(&[doctor("0000:00:10.0"), doctor("")])
        .unwrap();
    let [device, host] = &report.commands[..] else {
        panic!("{report:?}");
    };
    assert_steps(device, "blocker", &["vfio", "driver"]);
    assert_steps(host, "blocker", &["vfio"]);
    for step in report_of(device).steps {
        let remedy = step.remedy.unwrap_or_default();
        let loads = remedy.contains("modprobe vfio-pci");
        assert_eq!(loads, step.status == "blocker", "{}: {remedy}", step.step);
    }
}

/// Without an IOMMU, where that is allowed: a warning, and the device can be opened.
#[test]
fn no_iommu_but_allowed() {
    let report = with_exercise("lab")
        .append("intel_iommu=off vfio.enable_unsafe_noiommu_mode=1")
        .run(&[
            doctor("0000:00:10.0"),
            map("0000:00:10.0 --bar 2 --hold --backend noiommu").background("BAR 2"),
            doctor("0000:00:10.0"),
            Command::new(["@signal", "1", "15"]),
            Command::new(["@wait", "1"]),
            Command::new(["@unbind", "0000:00:10.0"]),
            doctor("0000:00:10.0"),
        ])
        .unwrap();
    let [free, _, held, _, _, _, unbound] = &report.commands[..] else {
        panic!("{report:?}");
    };
    // It has a group only while a VFIO driver creates one.
    assert_steps(unbound, "blocker", &["driver"]);
    assert_steps(free, "blocker", &[]);
    assert_step(free, "iommu", "warning", "no-IOMMU mode is allowed");
    assert_step(free, "node", "ok", "/dev/vfio/noiommu-");
    assert_steps(held, "blocker", &["open"]);
}

#[test]
fn interrupts_not_remapped() {
    let report = machine("newest")
        .append("intremap=off")
        .run(&[doctor("")])
        .unwrap();
    assert_steps(&report.commands[0], "blocker", &["interrupt-remapping"]);
}

/// On an old kernel: base pages only, a device without a driver, a group that another driver makes not viable.
#[test]
fn not_bound_and_not_viable() {
    let report = machine("6.1")
        .no_bind()
        .qemu("-drive if=none,id=disk,file.driver=null-co,file.size=1M,format=raw")
        .device("pci-testdev,membar=4G,addr=10.0,multifunction=on")
        .device("nvme,serial=x,drive=disk,addr=10.1")
        .run(&[
            doctor("0000:00:10.0"),
            doctor("0000:00:10.1"),
            Command::new(["@bind", "0000:00:10.0", "vfio-pci"]),
            doctor("0000:00:10.0"),
        ])
        .unwrap();
    let [unbound, nvme, _, spoilt] = &report.commands[..] else {
        panic!("{report:?}");
    };
    assert_steps(unbound, "blocker", &["driver", "group"]);
    assert_step(unbound, "driver", "blocker", "no driver");
    assert_step(unbound, "kernel", "warning", "pages only");
    assert_step(nvme, "driver", "blocker", "bound to nvme");
    assert_steps(spoilt, "blocker", &["group"]);
    assert_step(spoilt, "group", "blocker", "0000:00:10.1 is bound to nvme");
}

/// Under a policy that limits everything to base pages if the kernel asks it; the count confirms it.
#[test]
fn policies_that_the_kernel_asks() {
    for kernel in [kernel_that_asks(), "6.12", "newest"] {
        policies(kernel, version(kernel).asks_thp_policy());
    }
}

fn policies(kernel: &str, asked: bool) {
    let report = machine(kernel)
        .run(&[
            doctor("0000:00:10.0").thp(Thp::Never),
            map("0000:00:10.0 --bar 2 --limit 0 --require 1G"),
            doctor("0000:00:10.0").thp(Thp::Madvise),
            map("0000:00:10.0 --bar 2 --limit 0 --require 1G"),
        ])
        .unwrap();
    let [never, pages, madvise, leaves] = &report.commands[..] else {
        panic!("{report:?}");
    };
    let (blockers, status): (&[_], _) = if asked {
        (&["thp"], "blocker")
    } else {
        (&[], "ok")
    };
    assert_steps(never, "blocker", blockers);
    assert_step(never, "thp", status, "policy never");
    let (major, minor) = (version(kernel).major, version(kernel).minor);
    for (since, what) in [(15, "DMA maps by leaf"), (19, "BARs as dma-bufs")] {
        let told = never
            .stdout()
            .contains(&format!("{what} came with 6.{since}"));
        assert_eq!(told, (major, minor) < (6, since), "{what}: {never:?}");
    }
    assert_eq!(pages.code(), i32::from(asked), "{pages:?}");
    assert_steps(madvise, "blocker", &[]);
    assert_step(madvise, "thp", "ok", "policy madvise");
    assert_eq!(leaves.code(), 0, "{leaves:?}");
}

/// Inherited over exec, as from a service manager or container runtime.
#[test]
fn transparent_huge_pages_disabled_for_the_process() {
    let words = [
        "exercise",
        "no-thp",
        "hugebar",
        "doctor",
        "--json",
        "0000:00:10.0",
    ];
    let report = with_exercise("newest").run(&[Command::new(words)]).unwrap();
    assert_steps(&report.commands[0], "blocker", &["thp"]);
    assert_step(&report.commands[0], "thp", "blocker", "PR_SET_THP_DISABLE");
}

/// As Linux actually leaves it: an all-zero line in sysfs, although the register is not zero.
fn a_bar_has_no_address(kernel: &str) {
    let report = machine(kernel)
        .device("pci-testdev,membar=4G")
        .append("pci=resource_alignment=45@0000:00:10.0")
        .may_lack_addresses()
        .run(&[
            Command::new(["@cat", "/sys/bus/pci/devices/0000:00:10.0/resource"]),
            doctor("0000:00:10.0"),
            Command::new(["hugebar", "map", "0000:00:10.0", "--bar", "2"]),
        ])
        .unwrap();
    let [resource, doctor, map] = &report.commands[..] else {
        panic!("{report:?}");
    };
    let text = resource.stdout();
    let line = text.lines().nth(2).unwrap();
    assert!(
        !line.contains(|digit| ('1'..='9').contains(&digit)),
        "{line}"
    );
    // BAR 0 may also have lost its address.
    let steps = report_of(doctor).steps;
    let is_it = |step: &Step| step.step == "bar-address" && step.fact == "BAR 2 has no address";
    let step = steps.iter().find(|step| is_it(step));
    assert_eq!(
        step.unwrap_or_else(|| panic!("{steps:?}")).status,
        "blocker"
    );
    assert_eq!(map.code(), 2, "{map:?}");
    for words in ["no such region", "found no address for this BAR"] {
        assert!(map.stderr().contains(words), "{map:?}");
    }
}

#[test]
fn a_bar_has_no_address_on_6_12() {
    a_bar_has_no_address("6.12");
}

#[test]
fn a_bar_has_no_address_on_the_newest() {
    a_bar_has_no_address("newest");
}
