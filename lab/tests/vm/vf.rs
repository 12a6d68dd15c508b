//! Virtual functions: created, counted and removed by `hugebar vf`, and one that doctor looks at.

use hugebar_lab::{Command, Output};
use serde_json::Value;

use crate::bind::assert_refused;
use crate::devices::hugebar;
use crate::doctor::{assert_step, assert_steps, doctor, report_of};
use crate::report::machine;
use crate::schema::document as json;

/// The addresses of the virtual functions in a document of `hugebar vf`.
fn functions(output: &Output) -> Vec<String> {
    assert!(output.success(), "{output:?}");
    let document = json(output, "vf");
    let functions = document["functions"].as_array().unwrap().iter();
    functions
        .map(|own| own["device"].as_str().unwrap().to_owned())
        .collect()
}

/// A virtual function has no memory bit and no resizable BARs of its own.
#[test]
fn a_virtual_function() {
    const FIRST: &str = "0000:00:10.1";
    const SECOND: &str = "0000:00:10.2";
    let vf = |rest: &str| hugebar(&format!("vf 0000:00:10.0 --json {rest}"));
    let report = machine("newest")
        .qemu("-device nvme-subsys,id=subsystem")
        .device("nvme,serial=x,subsys=subsystem,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2")
        .no_bind()
        .run(&[
            vf("").uid(1000),
            // As a host may have it, and so no driver takes them.
            Command::new([
                "@write",
                "/sys/bus/pci/devices/0000:00:10.0/sriov_drivers_autoprobe",
                "0",
            ]),
            vf("1"),
            hugebar("bind --json 0000:00:10.1"),
            hugebar("map 0000:00:10.1 --hold").background("BAR 0"),
            vf("0"),
            vf("0 --force --timeout 2"),
            Command::new(["@signal", "4", "15"]),
            Command::new(["@wait", "4"]),
            vf("2"),
            hugebar("vf 0000:00:10.0 -o driver,device"),
            Command::new(["@ls", "/run/hugebar"]),
            vf("0 -v"),
            // VFIO creates them too, and binds them, but asks those who open them for a token.
            hugebar("bind --json 0000:00:10.0"),
            vf("1"),
            Command::new(["@write", "/sys/module/vfio_pci/parameters/enable_sriov", "Y"]),
            vf("3"),
            hugebar("vf 0000:00:10.0 2 --dry-run"),
            vf("1 -v"),
            hugebar("vf 0000:00:10.1 1 --json"),
            hugebar("vf 0000:00:1f.0 --json"),
            doctor("0000:00:10.1"),
            doctor("0000:00:10.0").uid(1000),
            doctor("0000:00:10.0"),
            hugebar("restore --json 0000:00:10.0"),
            vf("1"),
            vf("2"),
            vf("2 --force"),
            Command::new(["@cat", "/sys/bus/pci/devices/0000:00:10.0/sriov_numvfs"]),
            vf("0"),
            hugebar("vf 0000:00:10.0"),
        ])
        .unwrap();
    let [
        user,
        _,
        first,
        bound,
        _,
        open,
        stuck,
        _,
        _,
        others,
        table,
        records,
        removed,
        taken,
        disabled,
        _,
        many,
        dry,
        created,
        of_virtual,
        without,
        healthy,
        doctor_of_user,
        physical,
        has_some,
        same,
        other,
        forced,
        number,
        end,
        text,
    ] = &report.commands[..]
    else {
        panic!("{report:?}");
    };
    let none: [&str; 0] = [];
    assert_eq!(functions(user), none);
    // Without privilege, a number that the driver may have lowered does not give the size of each.
    for (output, each) in [(user, Value::Null), (first, Value::from(16 << 10))] {
        let bar = &json(output, "vf")["bars"][0];
        assert_eq!((&bar["each"], &bar["all"]), (&each, &Value::from(32 << 10)));
    }
    assert_eq!(functions(first), [FIRST]);
    assert_eq!(json(first, "vf")["functions"][0]["driver"], Value::Null);
    assert!(bound.success(), "{bound:?}");
    assert_refused(open, "in-use", &[FIRST, "(hugebar) has it open by VFIO"]);
    assert_refused(
        stuck,
        "timed-out",
        &[FIRST, "(hugebar) has it open by VFIO"],
    );
    // The kernel has gone on once it was free. Nothing is remembered about the one that was there before.
    assert_eq!(functions(others), [FIRST, SECOND]);
    assert_eq!(json(others, "vf")["before"], 0);
    let rows = format!(" driver  device\n -       {FIRST}\n -       {SECOND}\n");
    assert_eq!(table.stdout(), rows);
    assert_eq!(records.stdout(), "");
    assert_eq!(functions(removed), none);
    assert!(removed.stderr().contains("echo 0 > "), "{removed:?}");

    assert!(taken.success(), "{taken:?}");
    assert_refused(disabled, "not-supported", &["enable_sriov"]);
    assert_refused(many, "invalid-input", &["2 virtual functions at most"]);
    let step = "echo 2 > /sys/bus/pci/devices/0000:00:10.0/sriov_numvfs\n";
    assert_eq!(dry.stdout(), step);
    assert_eq!(functions(created), [FIRST]);
    assert!(created.stderr().contains("echo 1 > "), "{created:?}");
    assert_refused(of_virtual, "not-supported", &["hugebar vf 0000:00:10.0"]);
    assert_refused(without, "not-supported", &["no SR-IOV capability"]);

    assert_steps(healthy, "blocker", &[]);
    assert_step(healthy, "driver", "ok", "vfio-pci");
    // Extended configuration space needs privilege.
    assert_step(doctor_of_user, "bar-size", "ok", "<needs root>");
    // The line in sysfs covers both possible virtual functions.
    for output in [doctor_of_user, physical] {
        assert_step(output, "vf-bars", "ok", "BAR 0 of 16 KiB each for 2");
    }
    assert_step(doctor_of_user, "vf-bars", "ok", "<needs root>");
    let steps = report_of(healthy).steps;
    assert!(steps.iter().all(|step| step.step != "vf-bars"), "{steps:?}");

    assert_refused(
        has_some,
        "in-use",
        &["it has 1 virtual functions", "hugebar vf 0000:00:10.0 0"],
    );
    assert_eq!(functions(same), [FIRST]);
    assert_refused(other, "in-use", &["only by way of 0"]);
    assert_eq!(functions(forced), [FIRST, SECOND]);
    assert_eq!(number.stdout(), "2\n");
    assert_eq!(functions(end), none);
    let told = "0000:00:10.0  0 of 2 virtual functions, vfio-pci\n";
    assert!(text.stdout().starts_with(told), "{text:?}");
}

/// Firmware gives a root port a window of 2 MiB: too few for 127 virtual functions of 16 KiB each beside their physical
/// function's 32 KiB, which many interrupts need.
fn without_room(kernel: &str) {
    const PORT: &str = "0000:00:10.0";
    const OWN: &str = "0000:01:00.0";
    let written = |path: &str| Command::new(["@write", path, "1"]);
    let vf = |rest: &str| hugebar(&format!("vf {OWN} {rest}"));
    let report = machine(kernel)
        .append("pci=realloc=off")
        .qemu("-device nvme-subsys,id=subsystem")
        .device("pcie-root-port,id=port1")
        .device(
            "nvme,bus=port1,serial=x,subsys=subsystem,sriov_max_vfs=127,sriov_vq_flexible=254,\
             sriov_vi_flexible=127,msix_qsize=600,max_ioqpairs=256",
        )
        .no_bind()
        .run(&[
            vf("--json").uid(1000),
            vf("--json"),
            vf("1 --json"),
            vf(""),
            doctor(OWN),
            // What is told to free it.
            written(&format!("/sys/bus/pci/devices/{PORT}/remove")),
            written("/sys/bus/pci/rescan"),
            vf("1 --json"),
        ])
        .unwrap();
    let [user, counted, refused, text, doctor, _, _, created] = &report.commands[..] else {
        panic!("{report:?}");
    };
    let counted = json(counted, "vf");
    let bar = &counted["bars"][0];
    assert_eq!(bar["physical"], Value::Null);
    assert_eq!(
        (&bar["each"], &bar["all"]),
        (&Value::from(16 << 10), &Value::from(2032 << 10))
    );
    let narrow = &counted["narrow"];
    assert_eq!(
        (&narrow["bridge"], &narrow["window"]),
        (&Value::from(PORT), &Value::from(2 << 20))
    );
    let others = serde_json::json!([{"device": OWN, "bar": 0, "size": 32 << 10}]);
    assert_eq!(narrow["others"], others);
    // The user may not read the log, or see the registers.
    assert_eq!(json(user, "vf")["narrow"], Value::Null);
    let removes =
        format!("echo 1 > /sys/bus/pci/devices/{PORT}/remove; echo 1 > /sys/bus/pci/rescan");
    let bridge = format!("bridge {PORT} has a window of 2 MiB, shared with {OWN} BAR 0 (32 KiB)");
    assert_refused(
        refused,
        "no-space",
        &["BAR 0 (2032 KiB for all)", &bridge, &removes],
    );
    assert!(text.stdout().contains("no room for 2032 KiB"), "{text:?}");
    assert_step(doctor, "vf-bars", "warning", "BAR 0 of 16 KiB each for 127");
    assert_eq!(functions(created), ["0000:01:00.1"]);
}

#[test]
fn without_room_on_6_1() {
    without_room("6.1");
}

#[test]
fn without_room_on_6_12() {
    without_room("6.12");
}

#[test]
fn without_room_on_the_newest() {
    without_room("newest");
}
