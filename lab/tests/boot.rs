//! The lab itself: a guest runs commands and reports how they ended, and a failing guest is detected.

use std::time::Duration;

use hugebar::leaf::{GIB, MIB};
use hugebar_lab::debian::{QEMU_7_2, QEMU_10_0};
use hugebar_lab::{Command, Failure, FailureKind, Output, Report, Spec, Status, Thp};

mod schema;

const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

fn spec(kernel: &str) -> Spec {
    Spec::new(kernel)
}

fn failure(result: anyhow::Result<Report>) -> Failure {
    result.unwrap_err().downcast().unwrap()
}

/// The leaves of the only region in the output of `hugebar map --json`: size and number.
fn measured(output: &Output) -> Vec<(u64, u64)> {
    let report = schema::document(output, "map");
    let leaves = report["regions"][0]["measured"].as_object().unwrap().iter();
    leaves
        .map(|(size, count)| (size.parse().unwrap(), count.as_u64().unwrap()))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// A kernel without huge pfnmaps and a current one run the same commands.
#[test]
fn commands_run_on_old_and_new_kernels() {
    for kernel in ["6.1", "newest"] {
        let report = spec(kernel)
            .thp(Thp::Never)
            .device("pci-testdev,membar=4G")
            .device("edu")
            .run(&[
                Command::new(["@readlink", "/sys/bus/pci/devices/0000:00:10.0/driver"]),
                Command::new(["@readlink", "/sys/bus/pci/devices/0000:00:11.0/driver"]),
                Command::new(["@ls", "/dev/vfio"]),
                Command::new(["@cat", THP]),
                Command::new(["@cat", THP]).thp(Thp::Always),
                Command::new(["no-such-program"]),
                Command::new(["@cat", "/no/such/file"]),
                Command::new(["@exists", "/no/such/file"]),
            ])
            .unwrap();
        let [driver, edu, nodes, thp, thp_set, missing, cat, exists] = &report.commands[..] else {
            panic!("{kernel}: {:?}", report.commands);
        };
        assert!(driver.stdout().ends_with("/vfio-pci\n"), "{driver:?}");
        assert!(edu.stdout().ends_with("/vfio-pci\n"), "{edu:?}");
        // One group for each device, and the container.
        assert_eq!(nodes.stdout().lines().count(), 3, "{nodes:?}");
        assert_eq!(thp.stdout(), "always madvise [never]\n");
        assert_eq!(thp_set.stdout(), "[always] madvise never\n");
        assert_eq!(missing.status, Some(Status::Exited(127)));
        assert!(missing.stderr().contains("no-such-program"), "{missing:?}");
        assert_eq!((cat.code(), cat.stdout().len()), (2, 0));
        assert!(cat.stderr().contains("/no/such/file"), "{cat:?}");
        assert_eq!(exists.code(), 1);
        let wanted = if kernel == "newest" { "7." } else { "6.1." };
        assert!(report.release.starts_with(wanted), "{}", report.release);
    }
}

/// A program's output and status come back unchanged, and its user and time limit are applied.
#[test]
fn programs_of_this_host_run_with_their_libraries() {
    // Enough time to start, even on a busy host.
    const LIMIT: Duration = Duration::from_secs(5);
    let shell = |script: &str| Command::new(["sh", "-c", script]);
    let report = spec("newest")
        .no_bind()
        .copy("/bin/sh".parse().unwrap())
        .copy("/usr/bin/id".parse().unwrap())
        .run(&[
            shell("printf 'a\\r\\n\\003\\021\\377'; printf 'b\\n' >&2; exit 7"),
            shell("i=0; while [ $i -lt 3000 ]; do echo line number $i; i=$((i+1)); done"),
            shell("kill -SEGV $$"),
            shell("echo $WHO $PATH; id").env("WHO", "me").uid(1000),
            shell("echo begun; while :; do :; done").time_limit(LIMIT),
            shell("trap 'echo ended; exit 5' TERM; echo ready; while :; do :; done")
                .background("ready"),
            Command::new(["@exists", "/proc/{pid:5}/exe"]),
            Command::new(["@signal", "5", "15"]),
            Command::new(["@wait", "5"]),
            shell("(sleep 1000 &) ; echo parent"),
            shell("while :; do :; done").background(""),
        ])
        .unwrap();
    let output = |index: usize| &report.commands[index];
    assert_eq!(output(0).stdout, b"a\r\n\x03\x11\xff", "{report:?}");
    assert_eq!((output(0).stderr().as_ref(), output(0).code()), ("b\n", 7));
    assert_eq!(output(1).stdout().lines().count(), 3000);
    assert!(output(1).stdout().ends_with("line number 2999\n"));
    assert_eq!(output(2).status, Some(Status::Signaled(11)));
    let said = output(3).stdout();
    assert!(said.starts_with("me /bin:"), "{said}");
    assert!(said.contains("uid=1000 gid=1000"), "{said}");
    assert!(!said.contains("groups=0"), "{said}");
    assert_eq!(output(4).status, Some(Status::TimedOut));
    assert_eq!(output(4).stdout(), "begun\n");
    assert!(output(4).wall >= LIMIT);
    assert_eq!(output(5).status, Some(Status::Exited(5)));
    assert_eq!(output(5).stdout(), "ready\nended\n");
    assert!(output(6).success() && output(7).success() && output(8).success());
    assert_eq!(output(9).stdout(), "parent\n");
    assert!(output(9).success());
    // It ended with the last command.
    assert_eq!(output(10).status, Some(Status::Signaled(15)));
}

/// Firmware places BARs. That of each Debian release has room for the demo's, in either order and beside BARs
/// of other sizes.
#[test]
fn large_bars_have_addresses_with_every_qemu() {
    let demo = ["4G", "256G"];
    let reversed = ["256G", "4G"];
    let many = ["256M", "16G", "1G", "256G", "4G"];
    for qemu in [QEMU_7_2, QEMU_10_0] {
        for sizes in [&demo[..], &reversed, &many] {
            let spec = spec("newest").thp(Thp::Madvise).qemu_program(qemu.clone());
            let spec = sizes.iter().fold(spec, |spec, size| {
                spec.device(format!("pci-testdev,membar={size}"))
            });
            let commands: Vec<_> = (0x10..0x10 + sizes.len())
                .map(|slot| format!("hugebar map 0000:00:{slot:x}.0 --bar 2 --json"))
                .map(|line| Command::new(line.split(' ')))
                .collect();
            let report = spec.run(&commands).unwrap();
            for (size, output) in sizes.iter().zip(&report.commands) {
                let what = format!("{size} of {sizes:?} with {}", qemu.suite);
                assert!(output.success(), "{what}: {output:?}");
                // One leaf per GiB, or 2 MiB leaves if the BAR is smaller.
                let leaves = match size.strip_suffix('G') {
                    Some(count) => (GIB, count.parse().unwrap()),
                    None => (2 * MIB, 128),
                };
                assert_eq!(measured(output), [leaves], "{what}");
            }
        }
    }
}

/// The host does not wait for an endless guest, but reports what it was doing.
#[test]
fn a_guest_is_ended_when_its_time_is_over() {
    // Enough time to boot, and to repeat a boot or two.
    const LIMIT: Duration = Duration::from_secs(60);
    let unbind = "/sys/bus/pci/drivers/vfio-pci/unbind";
    let failure = failure(
        spec("newest")
            .timeout(LIMIT)
            .copy("/bin/sh".parse().unwrap())
            .run(&[
                Command::new(["@cat", "/proc/version"]),
                // Unbinding a device waits for the process that has it open, which is stopped here and does not
                // close it. A second unbind waits for a lock.
                Command::new(["hugebar", "map", "0000:00:10.0", "--hold", "--json"])
                    .background("verdict"),
                Command::new(["@signal", "1", "19"]),
                Command::new(["sh", "-c", &format!("echo go; echo 0000:00:10.0 >{unbind}")])
                    .background("go"),
                Command::new(["@sleep", "2"]),
                Command::new(["@write", unbind, "0000:00:10.0"]),
            ]),
    );
    assert_eq!(failure.kind, FailureKind::TimedOut(LIMIT));
    assert_eq!(failure.code(), 124);
    let commands = &failure.report.commands;
    assert!(
        commands[0].stdout().starts_with("Linux version"),
        "{commands:?}"
    );
    let text = failure.to_string();
    assert!(text.contains("commands that have ended: 3"), "{text}");
    // Blocked tasks come first, and all tasks last.
    for word in [
        "Show Blocked State",
        "backtrace of all active CPUs",
        "Show State",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let (_, blocked) = text.split_once("Show Blocked State").unwrap();
    let (blocked, _) = blocked.split_once("backtrace of all").unwrap();
    assert!(blocked.contains("task:init"), "{text}");
    assert!(blocked.contains("unbind_store"), "{text}");
    assert!(text.lines().count() < 250, "{text}");
}

/// A panic ends the machine at once, and its console says why.
#[test]
fn a_panic_is_reported_with_the_console() {
    let failure = failure(spec("6.12").run(&[
        Command::new(["@cat", "/proc/version"]),
        Command::new(["@write", "/proc/sysrq-trigger", "c"]),
        Command::new(["@cat", "/proc/version"]),
    ]));
    let FailureKind::Crashed(line) = &failure.kind else {
        panic!("{failure:?}");
    };
    assert!(line.contains("sysrq triggered crash"), "{line}");
    assert_eq!(failure.code(), 125);
    assert!(failure.report.commands[0].success());
    assert!(
        failure.report.commands.len() < 3,
        "{:?}",
        failure.report.commands
    );
    let text = failure.to_string();
    assert!(text.contains("Call Trace"), "{text}");
}

/// Errors of QEMU or PID 1 about a device reach the user.
#[test]
fn a_device_that_cannot_be_is_reported() {
    let unknown = failure(spec("newest").device("no-such-device").run(&[]));
    let FailureKind::Machine(words) = &unknown.kind else {
        panic!("{unknown:?}");
    };
    assert!(words.contains("no-such-device"), "{words}");
    assert_eq!(unknown.code(), 2);
    assert_eq!(unknown.report.boot_retries, 0);

    let unbound = failure(spec("newest").append("intel_iommu=off").run(&[]));
    let FailureKind::Setup(reason) = &unbound.kind else {
        panic!("{unbound:?}");
    };
    assert!(reason.contains("0000:00:10.0"), "{reason}");
}

/// VFIO cannot bind a bridge; the devices behind it are bound.
#[test]
fn devices_behind_a_bridge_are_bound_without_it() {
    let driver = |address: &str| {
        let link = format!("/sys/bus/pci/devices/{address}/driver");
        Command::new(["@readlink", &link])
    };
    let report = spec("newest")
        .device("pcie-root-port,id=port1")
        .device("edu,bus=port1,addr=0.0,multifunction=on")
        .device("pci-testdev,bus=port1,addr=0.1")
        .device("edu")
        .run(&[
            driver("0000:01:00.0"),
            driver("0000:01:00.1"),
            driver("0000:00:11.0"),
            driver("0000:00:10.0"),
        ])
        .unwrap();
    let [first, second, beside, bridge] = &report.commands[..] else {
        panic!("{report:?}");
    };
    for bound in [first, second, beside] {
        assert!(bound.stdout().ends_with("/vfio-pci\n"), "{bound:?}");
    }
    assert!(!bridge.stdout().contains("vfio"), "{bridge:?}");
}

/// This is the machine's fault, and is detected before any command runs.
#[test]
fn a_bar_without_an_address_is_reported_unless_it_may_be() {
    for kernel in ["6.1", "newest"] {
        let spec = spec(kernel)
            .device("pci-testdev,membar=4G")
            .append("pci=resource_alignment=45@0000:00:10.0");
        let resource = Command::new(["@cat", "/sys/bus/pci/devices/0000:00:10.0/resource"]);
        let commands = [resource];

        let failure = failure(spec.run(&commands));
        let FailureKind::Setup(reason) = &failure.kind else {
            panic!("{kernel}: {failure:?}");
        };
        let (_, kernels) = reason
            .split_once("0000:00:10.0 has no address for BAR 2: ")
            .unwrap_or_else(|| panic!("{reason}"));
        assert!(kernels.starts_with("pci 0000:00:10.0: BAR 2 "), "{reason}");
        assert!(kernels.ends_with("can't assign; no space"), "{reason}");
        assert_eq!(failure.code(), 2);
        assert!(failure.report.commands.is_empty(), "{failure:?}");

        let report = spec.may_lack_addresses().run(&commands).unwrap();
        assert!(report.commands[0].success(), "{report:?}");
    }
}
