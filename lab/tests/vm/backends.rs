//! `hugebar map` by each backend: the same leaves, checked against the page tables.

use hugebar_lab::{Command, Output};

use crate::report::{ErrorReport, Region, Report, machine, map, map_json};

fn region(output: &Output, backend: &str) -> Region {
    assert!(output.success(), "{output:?}");
    let mut report = Report::parse(output);
    assert_eq!(report.backend, backend);
    report.regions.remove(0)
}

#[test]
fn iommufd_has_the_leaves_of_type1_and_the_page_tables_agree() {
    let mut commands = Vec::new();
    let shapes = ["", "--exclude 0x6000+0x1000", "--placement size-aligned"];
    for shape in shapes {
        for backend in ["type1", "iommufd", "auto"] {
            let arguments = format!("0000:00:10.0 --bar 2 --witness --backend {backend} {shape}");
            commands.push(map_json(&arguments));
        }
    }
    let report = machine("lab").run(&commands).unwrap();
    let leaves = [[4, 0, 0], [3, 511, 511], [4, 0, 0]];
    for (outputs, leaves) in report.commands.chunks(3).zip(leaves) {
        let opened = [("type1", "type1"), ("iommufd", "kvm"), ("type1", "type1")];
        for (output, (backend, populated_by)) in outputs.iter().zip(opened) {
            let region = region(output, backend);
            assert_eq!(region.populated_by.as_deref(), Some(populated_by));
            assert_eq!(region.measured(), leaves, "{backend}");
            assert_eq!(region.witness(), leaves, "{backend}");
            assert_eq!(region.verdict, "optimal");
            assert_eq!(output.stderr(), "");
        }
    }
}

/// Without nested paging KVM cannot populate either.
#[test]
fn without_a_way_to_populate_it_says_what_would_measure() {
    let report = machine("lab")
        .append("kvm_amd.npt=0")
        .run(&[
            map_json("0000:00:10.0 --bar 2 --backend iommufd"),
            map("0000:00:10.0 --bar 2 --backend iommufd --require 4K"),
            // Nothing has populated it, as the page tables show.
            map_json("0000:00:10.0 --bar 2 --backend iommufd --witness"),
        ])
        .unwrap();
    let unmeasured = region(&report.commands[0], "iommufd");
    assert_eq!(unmeasured.verdict, "unmeasured");
    assert_eq!(unmeasured.codes(), ["no-populate"]);
    let remedy = &unmeasured.reasons[0].remedy;
    assert!(
        remedy.contains("--backend type1") && remedy.contains("use a KVM that can pre-fault"),
        "{remedy}"
    );
    assert_eq!(
        report.commands[1].code(),
        1,
        "what is not measured is not met"
    );
    assert_eq!(region(&report.commands[2], "iommufd").witness(), [0, 0, 0]);
}

/// A kernel without iommufd: silently uses type1, and gives a clear error if iommufd was requested.
#[test]
fn a_kernel_without_iommufd() {
    let report = machine("newest")
        .run(&[
            map_json("0000:00:10.0 --bar 2"),
            map_json("0000:00:10.0 --bar 2 --backend iommufd"),
            map_json("0000:00:10.0 --bar 2 --backend noiommu"),
            map_json("0000:00:10.0 --bar 2 --witness"),
        ])
        .unwrap();
    let [auto, iommufd, noiommu, witness] = &report.commands[..] else {
        panic!("{report:?}");
    };
    assert_eq!(Report::region(auto).verdict, "optimal");
    for (output, kind, word) in [
        (iommufd, "unsupported", "no iommufd"),
        (noiommu, "unsupported", "no-IOMMU mode"),
        (witness, "witness", "CONFIG_PTDUMP_DEBUGFS"),
    ] {
        assert_eq!(output.code(), 2, "{output:?}");
        assert_eq!(output.stderr().lines().count(), 1, "{output:?}");
        let error = ErrorReport::of(output).error;
        assert_eq!(error.kind, kind);
        assert!(error.message.contains(word), "{error:?}");
    }
}

#[test]
fn no_iommu_only_when_it_is_asked_for_by_name() {
    let report = machine("lab")
        .append("intel_iommu=off vfio.enable_unsafe_noiommu_mode=1")
        .run(&[
            map("0000:00:10.0 --bar 2"),
            map_json("0000:00:10.0 --bar 2 --backend noiommu --witness"),
        ])
        .unwrap();
    let refused = &report.commands[0];
    assert_eq!(refused.code(), 2, "{refused:?}");
    assert!(
        refused.stderr().contains("no-IOMMU mode explicitly"),
        "{refused:?}"
    );
    let warned = &report.commands[1];
    assert!(warned.stderr().contains("warning") && warned.stderr().contains("all memory"));
    let region = region(warned, "noiommu");
    assert_eq!(
        (region.measured(), region.witness()),
        ([4, 0, 0], [4, 0, 0])
    );
}

/// `/dev/vfio/vfio` that is really an iommufd (`CONFIG_IOMMUFD_VFIO_CONTAINER`), here by mounting one over
/// the other: it is detected before it returns EFAULT, and KVM populates instead.
#[test]
fn a_container_that_is_really_iommufds() {
    let cover = Command::new(["@cover", "/dev/vfio/vfio", "/dev/iommu"]);
    let commands = [
        cover.clone(),
        map_json("0000:00:10.0 --bar 2 --witness"),
        map_json("0000:00:10.0 --bar 2 --backend type1 --exclude 0x6000+0x1000"),
        Command::new(["hugebar", "doctor", "0000:00:10.0"]),
    ];
    let report = machine("lab").run(&commands).unwrap();
    let [_, auto, hole, doctor] = &report.commands[..] else {
        panic!("{report:?}");
    };
    for (output, leaves) in [(auto, [4, 0, 0]), (hole, [3, 511, 511])] {
        let region = region(output, "type1");
        assert_eq!(region.populated_by.as_deref(), Some("kvm"));
        assert_eq!(region.measured(), leaves);
    }
    assert!(doctor.success(), "{doctor:?}");

    // It refuses the device, not the IOMMU.
    let wanted = map("0000:00:10.0 --bar 2 --backend type1");
    let report = machine("lab").append("intremap=off").run(&[cover, wanted]);
    let refused = &report.unwrap().commands[1];
    assert_eq!(refused.code(), 2, "{refused:?}");
    let remedy = "iommufd.allow_unsafe_interrupts=1";
    assert!(refused.stderr().contains(remedy), "{refused:?}");
}

/// Without interrupt remapping, where that risk is accepted for only one of the two.
#[test]
fn interrupts_not_remapped_for_one_backend() {
    let report = machine("lab")
        .append("intremap=off iommufd.allow_unsafe_interrupts=1")
        .run(&[
            map_json("0000:00:10.0 --bar 2"),
            map("0000:00:10.0 --bar 2 --backend type1"),
        ])
        .unwrap();
    assert_eq!(region(&report.commands[0], "iommufd").verdict, "optimal");
    let refused = &report.commands[1];
    assert_eq!(refused.code(), 2, "{refused:?}");
    let remedy = "vfio_iommu_type1.allow_unsafe_interrupts=1";
    assert!(refused.stderr().contains(remedy), "{refused:?}");
}

/// A process that has the device open, by any backend, keeps others out.
#[test]
fn a_device_that_is_taken_is_busy() {
    let mut commands = Vec::new();
    for (held, wanted) in [("type1", "iommufd"), ("iommufd", "type1")] {
        let index = commands.len().to_string();
        let hold = map(&format!("0000:00:10.0 --bar 2 --backend {held} --hold"));
        commands.push(hold.background("optimal"));
        commands.push(map(&format!("0000:00:10.0 --bar 2 --backend {wanted}")));
        commands.push(Command::new(["@signal", index.as_str(), "15"]));
        commands.push(Command::new(["@wait", index.as_str()]));
    }
    let report = machine("lab").run(&commands).unwrap();
    for busy in [&report.commands[1], &report.commands[5]] {
        assert_eq!(busy.code(), 2, "{busy:?}");
        let line = busy.stderr();
        assert!(
            line.contains("busy") && line.contains("another process"),
            "{line}"
        );
    }
    for held in [&report.commands[0], &report.commands[4]] {
        assert!(held.success(), "{held:?}");
    }
}
