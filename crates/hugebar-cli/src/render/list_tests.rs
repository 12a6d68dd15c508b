use std::fs;
use std::os::unix::fs::symlink;

use hugebar_host::devices;
use hugebar_host::pci_ids::PciIds;

use super::*;

const IDS: &str = "\
10de  NVIDIA Corporation
\t2330  GH100 [H100 SXM5 80GB]
15b3  Mellanox\u{202e} Technologies
C 01  Mass storage controller
\t08  Non-Volatile memory controller
";

const DEFAULT: [ListColumn; 7] = [
    ListColumn::Device,
    ListColumn::Size,
    ListColumn::Bar,
    ListColumn::Driver,
    ListColumn::Group,
    ListColumn::Numa,
    ListColumn::Name,
];

/// A GPU, a network card whose name has a character that reorders text, and a disk without a driver.
fn recorded() -> Vec<Described> {
    let root = tempfile::tempdir().unwrap();
    let zero = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
    let gpu = [
        "0x00000000a0000000 0x00000000a0ffffff 0x000000000014220c\n",
        zero,
        "0x0000380000000000 0x0000381fffffffff 0x000000000014220c\n",
        zero,
        "0x0000382000000000 0x0000382001ffffff 0x000000000014220c\n",
        zero,
    ];
    let nic = [
        "0x00003a0000000000 0x00003a0001ffffff 0x000000000014220c\n",
        zero,
    ];
    let disk = [
        "0x00000000fe800000 0x00000000febfffff 0x0000000000140204\n",
        zero,
    ];
    for (address, ids, class, node, driver, resource) in [
        (
            "0000:1b:00.0",
            ["0x10de", "0x2330"],
            "0x030200",
            "0",
            "vfio-pci",
            gpu.concat(),
        ),
        (
            "0000:3b:00.0",
            ["0x15b3", "0x101d"],
            "0x020000",
            "1",
            "mlx5_core",
            nic.concat(),
        ),
        (
            "0000:5e:00.0",
            ["0x144d", "0xa824"],
            "0x010802",
            "-1",
            "",
            disk.concat(),
        ),
    ] {
        let folder = root.path().join(address);
        fs::create_dir(&folder).unwrap();
        let files = [
            ("vendor", ids[0]),
            ("device", ids[1]),
            ("class", class),
            ("numa_node", node),
            ("resource", &resource),
        ];
        for (name, content) in files {
            fs::write(folder.join(name), content).unwrap();
        }
        if !driver.is_empty() {
            symlink(format!("../{driver}"), folder.join("driver")).unwrap();
            symlink("../groups/42", folder.join("iommu_group")).unwrap();
        }
    }
    devices::list_in(root.path(), &PciIds::parse(IDS)).unwrap()
}

fn shown(columns: &[ListColumn], headings: bool, width: Option<u16>) -> String {
    let all = recorded();
    let mut report = ListReport::new(&all, columns, headings);
    report.width = width;
    report.to_string()
}

#[test]
fn text_at_160_columns() {
    assert_eq!(
        shown(&DEFAULT, true, Some(160)),
        r" device           size  BAR  driver     group  NUMA  name
 0000:1b:00.0  128 GiB    2  vfio-pci      42     0  NVIDIA Corporation GH100 [H100 SXM5 80GB]
 0000:3b:00.0   32 MiB    0  mlx5_core     42     1  Mellanox\u{202e} Technologies Device 101d
 0000:5e:00.0    4 MiB    0  -              -     -  144d:a824, Non-Volatile memory controller
"
    );
    assert_eq!(
        shown(&DEFAULT, true, None),
        shown(&DEFAULT, true, Some(160))
    );
}

#[test]
fn text_at_80_columns() {
    assert_eq!(
        shown(&DEFAULT, true, Some(80)),
        r" device           size  BAR  driver     group  NUMA  name
 0000:1b:00.0  128 GiB    2  vfio-pci      42     0  NVIDIA Corporation GH100
                                                     [H100 SXM5 80GB]
 0000:3b:00.0   32 MiB    0  mlx5_core     42     1  Mellanox\u{202e}
                                                     Technologies Device 101d
 0000:5e:00.0    4 MiB    0  -              -     -  144d:a824, Non-Volatile
                                                     memory controller
"
    );
}

/// Lines get too long instead of columns too narrow to read.
#[test]
fn text_at_30_columns() {
    let text = shown(&DEFAULT, true, Some(30));
    assert!(text.contains("NVIDIA Corporation\n"), "{text}");
}

#[test]
fn columns_that_are_asked_for() {
    let columns = [
        ListColumn::Ids,
        ListColumn::Bars,
        ListColumn::Physical,
        ListColumn::Class,
    ];
    assert_eq!(
        shown(&columns, false, None),
        " \
 10de:2330  0: 16 MiB, 2: 128 GiB, 4: 32 MiB  0x380000000000  0x030200
 15b3:101d  0: 32 MiB                         0x3a0000000000  0x020000
 144d:a824  0: 4 MiB                              0xfe800000  Non-Volatile memory controller
"
    );
}

#[test]
fn json() {
    let all = recorded();
    let report = ListReport::new(&all, &DEFAULT, true);
    let document = serde_json::to_value(&report).unwrap();
    super::super::schema::check("list", &document);
    let gpu = &document["devices"][0];
    let expected = serde_json::json!({
        "device": "0000:1b:00.0", "ids": "10de:2330", "subsystem": null, "class": "0x030200",
        "vendor_name": "NVIDIA Corporation", "device_name": "GH100 [H100 SXM5 80GB]",
        "subsystem_name": null, "class_name": null, "driver": "vfio-pci", "group": 42,
        "numa_node": 0, "power_state": null, "largest": 2,
        "bars": [
            {"bar": 0, "size": 16_777_216, "physical": "0xa0000000", "is_64_bit": true, "prefetchable": true},
            {"bar": 2, "size": 137_438_953_472_u64, "physical": "0x380000000000", "is_64_bit": true,
             "prefetchable": true},
            {"bar": 4, "size": 33_554_432, "physical": "0x382000000000", "is_64_bit": true, "prefetchable": true},
        ],
    });
    assert_eq!(gpu, &expected);
    assert_eq!(document["version"], 1);
}
