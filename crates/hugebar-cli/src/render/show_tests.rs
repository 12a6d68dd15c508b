use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use hugebar::facts::{Facts, ThpDisabled};
use hugebar::leaf::LeafSizes;
use hugebar::pci::{Function, Iomem};
use hugebar_host::pci_ids::PciIds;
use hugebar_host::show;

use super::*;

const IDS: &str = "\
1002  Advanced Micro Devices, Inc. [AMD/ATI]
\t731f  Navi 10
C 03  Display controller
\t00  VGA compatible controller
";

/// Writes the files of a function, and lists it.
fn function(root: &Path, path: &str, files: &[(&str, &str)]) {
    let folder = root.join(path);
    fs::create_dir_all(&folder).unwrap();
    for (name, content) in files {
        fs::write(folder.join(name), content).unwrap();
    }
    let mut header = [0; 64];
    header[0x06] = 0x10;
    header[0x34] = 0x40;
    fs::write(folder.join("config"), header).unwrap();
    fs::create_dir_all(root.join("bus")).unwrap();
    let name = folder.file_name().unwrap();
    symlink(&folder, root.join("bus").join(name)).unwrap();
}

/// A GPU behind a root port, as users without privilege see it.
fn shown(width: Option<u16>) -> (String, serde_json::Value) {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let zero = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
    let window = "0x0000380000000000 0x000038001fffffff 0x0000000000102201\n";
    let port = [&zero.repeat(9), window].concat();
    let files = [("class", "0x060400"), ("resource", &port)];
    function(root, "0000:00:01.0", &files);
    let gpu = [
        "0x0000380000000000 0x000038000fffffff 0x000000000014220c\n",
        zero,
        "0x00000000fe800000 0x00000000fe87ffff 0x0000000000040200\n",
    ];
    let files = [
        ("class", "0x030000"),
        ("resource", &gpu.concat()),
        ("vendor", "0x1002"),
        ("device", "0x731f"),
        ("subsystem_vendor", "0x1da2"),
        ("subsystem_device", "0x426e"),
        ("numa_node", "1"),
        ("power_state", "D0\n"),
        ("resource0_resize", "0000000000003f00\n"),
    ];
    function(root, "0000:00:01.0/0000:03:00.0", &files);
    let audio = "0x0000380010000000 0x0000380010003fff 0x000000000014220c\n";
    let files = [("class", "0x040300"), ("resource", audio)];
    function(root, "0000:00:01.0/0000:03:00.1", &files);
    let gpu = root.join("bus/0000:03:00.0");
    symlink("../amdgpu", gpu.join("driver")).unwrap();
    let iommu = root.join("dmar0");
    fs::create_dir_all(iommu.join("intel-iommu")).unwrap();
    fs::write(iommu.join("intel-iommu/cap"), "1c0000c40660462\n").unwrap();
    symlink(&iommu, gpu.join("iommu")).unwrap();
    let group = root.join("groups/12");
    fs::create_dir_all(group.join("devices")).unwrap();
    let reserved = "0x000000003ffdf000 0x000000003ffdffff direct\n";
    fs::write(group.join("reserved_regions"), reserved).unwrap();
    symlink(&group, gpu.join("iommu_group")).unwrap();
    for address in ["0000:03:00.0", "0000:03:00.1"] {
        let device = root.join("bus").join(address);
        symlink(device, group.join("devices").join(address)).unwrap();
    }

    let mut facts = Facts::observe();
    facts.release = "7.3.4".to_owned();
    facts.leaf_sizes = LeafSizes::X86_64;
    facts.thp_disabled = ThpDisabled::No;
    let iomem = Iomem::parse(
        "\
00000000-00000000 : PCI Bus 0000:03
  00000000-00000000 : 0000:03:00.0
    00000000-00000000 : a\u{1b}[2J
  00000000-00000000 : 0000:03:00.0
",
    );
    let gpu = Function::listed_in(&root.join("bus"), "03:00.0".parse().unwrap()).unwrap();
    let shown = show::show(&gpu, &facts, &PciIds::parse(IDS), &iomem).unwrap();
    let mut report = ShowReport::new(&shown, &facts, &[]);
    report.width = width;
    (report.to_string(), serde_json::to_value(&report).unwrap())
}

#[test]
fn text_at_80_columns() {
    let (text, _) = shown(Some(80));
    let longest = text.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(80), "{text}");
    assert_eq!(text, include_str!("golden/show-80.txt"));
}

#[test]
fn text_at_160_columns() {
    let (text, _) = shown(Some(160));
    assert_eq!(text, include_str!("golden/show-160.txt"));
    assert_eq!(text.lines().count(), shown(None).0.lines().count() + 1);
}

#[test]
fn json() {
    let (_, document) = shown(None);
    super::super::schema::check("show", &document);
    assert_eq!(document["device"], "0000:03:00.0");
    assert_eq!(document["unknown"][0]["why"], "<needs root>");
    let growth = &document["bars"][0]["growth"];
    assert_eq!(growth["bridge"], "0000:00:01.0");
    assert_eq!(growth["others"][0]["device"], "0000:03:00.1");
    let costs = &document["bars"][0]["placements"];
    assert_eq!(costs[2]["worst"]["4096"], 65_536);
    assert_eq!(
        document["iommu"],
        serde_json::json!({"name": "dmar0", "bits": 39})
    );
}
