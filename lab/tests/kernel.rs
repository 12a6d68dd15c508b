//! The lab kernel has the features that it is built for.

use hugebar_lab::{Command, Spec};

const DUMP: &str = "/sys/kernel/debug/page_tables/current_user";

const NO_IOMMU: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

/// Features that Debian's own kernels lack in part, and on which other tests rely.
const FILES: [&str; 7] = [
    "/dev/vfio/vfio",
    "/dev/vfio/devices/vfio0",
    "/dev/iommu",
    "/dev/kvm",
    "/dev/udmabuf",
    NO_IOMMU,
    DUMP,
];

/// Without a module, the device is bound, and all interfaces are there.
#[test]
fn the_lab_kernel_has_every_interface_to_vfio() {
    let mut commands = vec![
        Command::new(["@readlink", "/sys/bus/pci/devices/0000:00:10.0/driver"]),
        Command::new(["@ls", "/sys/bus/pci/devices/0000:00:10.0/vfio-dev"]),
        Command::new(["@cat", DUMP]),
        Command::new(["hugebar", "map", "0000:00:10.0", "--require", "optimal"]),
    ];
    commands.extend(FILES.map(|file| Command::new(["@exists", file])));
    let report = Spec::new("lab").run(&commands).unwrap();
    let (first, exists) = report.commands.split_at(4);
    assert!(first[0].stdout().ends_with("/vfio-pci\n"), "{first:?}");
    assert_eq!(first[1].stdout(), "vfio0\n");
    // Hundreds of lines, one of them for a leaf.
    let dump = first[2].stdout();
    assert!(dump.starts_with("---[ User Space ]---\n"), "{dump:.200}");
    assert!(dump.contains(" NX pte\n"), "{dump:.2000}");
    assert!(first[3].success(), "{:?}", first[3]);
    for (file, exists) in FILES.iter().zip(exists) {
        assert!(exists.success(), "the lab kernel has no {file}");
    }
}

/// Groups without an IOMMU, once that is allowed.
#[test]
fn the_lab_kernel_hands_out_devices_without_an_iommu() {
    let report = Spec::new("lab")
        .append("intel_iommu=off")
        .no_bind()
        .run(&[
            Command::new(["@write", NO_IOMMU, "1"]),
            Command::new(["@bind", "0000:00:10.0", "vfio-pci"]),
            Command::new(["@ls", "/dev/vfio"]),
        ])
        .unwrap();
    let nodes = &report.commands[2];
    assert!(nodes.stdout().contains("noiommu-0\n"), "{report:?}");
}
