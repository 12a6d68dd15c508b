//! `hugebar list`, `show` and `plan` on a real kernel.

use hugebar_lab::{Command, Output};
use serde_json::Value;

use crate::report::machine;
use crate::schema::document as json;

pub(crate) fn hugebar(arguments: &str) -> Command {
    let words = ["hugebar"].into_iter();
    Command::new(words.chain(arguments.split_whitespace()))
}

const SHOWN: &str = "\
0000:00:10.0  1b36:0005, class 0x00ff00
  IDs          1b36:0005
  card         1af4:1100
  class        0x00ff00
  driver       vfio-pci
  power        D0
  IOMMU group  2, alone in it
  IOMMU        dmar0, addresses of 48 bits; a guest with the largest BAR needs 33 bits
  MSI-X        none

BAR 0  4 KiB, 32-bit, non-prefetchable, at ADDRESS
  placement     addresses  leaves     total
  congruent     any        1 × 4 KiB      1
  size-aligned  any        1 × 4 KiB      1
  plain         any        1 × 4 KiB      1

BAR 2  4 GiB, 64-bit, prefetchable, at ADDRESS
  placement     addresses  leaves             total
  congruent     any        4 × 1 GiB              4
  size-aligned  any        4 × 1 GiB              4
  plain         best       4 × 1 GiB              4
  plain         worst      1048576 × 4 KiB  1048576

hugebar doctor finds:
  warning reset               the kernel has no reset method for the device
";

/// The text with the machine's addresses masked.
fn masked(text: &str) -> String {
    let line = |line: &str| match line.split_once(", at 0x") {
        Some((start, _)) => format!("{start}, at ADDRESS\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn devices_and_their_bars() {
    let report = machine("6.12")
        .device("pci-testdev,membar=4G")
        .device("nvme,serial=1")
        .run(&[
            hugebar("list"),
            hugebar("list --all -o bars,device --noheadings"),
            hugebar("list --json"),
            hugebar("show 0000:00:10.0"),
            hugebar("show 1b36:0010 --json"),
            hugebar("show 00:11.0 --json").uid(1000),
            hugebar("plan 4G --hva 0x7f1240000000 --json"),
            hugebar("show 00:12.0 --json"),
            hugebar("doctor 00:10.0 --json"),
            hugebar("list --nfd=/tmp/features"),
            Command::new(["@cat", "/tmp/features"]),
            hugebar("list --nfd=/proc/features --json"),
        ])
        .unwrap();
    let [
        list,
        all,
        listed,
        text,
        root,
        user,
        plan,
        missing,
        doctor,
        nfd,
        features,
        unwritable,
    ] = &report.commands[..]
    else {
        panic!("{report:?}");
    };
    let words = |output: &Output| {
        let text = output.stdout();
        let lines = text.lines();
        let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        words.collect::<Vec<_>>()
    };
    assert_eq!(
        words(list)[..2],
        [
            "device size BAR driver group NUMA name",
            "0000:00:10.0 4 GiB 2 vfio-pci 2 - 1b36:0005, class 0x00ff00"
        ]
    );
    assert_eq!(words(all)[0], "0: 4 KiB, 2: 4 GiB 0000:00:10.0");
    assert!(words(all).contains(&"0: 16 KiB 0000:00:11.0".to_owned()));
    let listed = json(listed, "list");
    assert_eq!(listed["devices"][0]["device"], "0000:00:10.0");
    assert_eq!(listed["devices"][0]["bars"][1]["size"], 4_u64 << 30);

    assert!(text.success(), "{text:?}");
    assert_eq!(masked(&text.stdout()), SHOWN);
    let (root, user) = (json(root, "show"), json(user, "show"));
    assert_eq!(root["device"], "0000:00:11.0");
    // What QEMU's NVMe has.
    assert_eq!(
        root["msix"]["table"],
        serde_json::json!({"bar": 0, "offset": 0x2000, "size": 65 * 16})
    );
    assert_eq!(root["unknown"], Value::Array(Vec::new()));
    assert_eq!(user["msix"], Value::Null);
    let needs_root = serde_json::json!({"what": "msix", "why": "<needs root>"});
    assert!(
        user["unknown"].as_array().unwrap().contains(&needs_root),
        "{user}"
    );
    // Extended configuration space takes privilege too.
    let (own, seen) = (&root["bars"][0], &user["bars"][0]);
    assert_eq!(
        (&own["sizes"], &seen["sizes"]),
        (&Value::Array(Vec::new()), &Value::Null)
    );
    assert_eq!(own["placements"], seen["placements"]);
    assert_eq!(own["physical"], seen["physical"]);

    assert_eq!(json(plan, "plan")["at"]["leaves"]["1073741824"], 4);
    assert_eq!(missing.code(), 2);
    assert_eq!(json(missing, "error")["error"]["kind"], "not-found");
    assert!(nfd.success() && nfd.stdout().is_empty(), "{nfd:?}");
    let text = features.stdout();
    assert!(text.starts_with("# +expiry-time=2"), "{text}");
    for (name, value) in [
        // The other one is the machine's graphics card.
        ("devices", "2"),
        ("vfio-devices", "1"),
        ("largest-bar-bytes", "4294967296"),
        ("largest-leaf-bytes", "1073741824"),
        ("large-leaves", "true"),
    ] {
        let line = format!("\nhugebar.feature.node.kubernetes.io/{name}={value}\n");
        assert!(text.contains(&line), "{line:?}: {text}");
    }
    assert_eq!(unwritable.code(), 2, "{unwritable:?}");
    let steps = json(doctor, "doctor")["steps"].as_array().unwrap().len();
    assert!(steps > 8, "{doctor:?}");
}
