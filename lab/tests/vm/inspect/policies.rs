//! What the policy for transparent huge pages lets a mapping have, and which of two devices it maps.

use hugebar_lab::{Command, Thp};

use super::{Report, inspect};
use crate::device::with_exercise;
use crate::report::{kernel_that_asks, machine, map, version};

/// A process with THP disabled can have only base pages.
#[test]
fn a_process_without_transparent_huge_pages() {
    let words = [
        "exercise",
        "no-thp",
        "hugebar",
        "map",
        "--bar",
        "2",
        "--hold",
        "0000:00:10.0",
    ];
    let report = with_exercise("newest")
        .device("pci-testdev,membar=256M")
        .run(&[
            Command::new(words).background("BAR 2"),
            inspect("{pid:0} --json"),
            inspect("{pid:0} --require 2M"),
        ])
        .unwrap();
    let process = Report::of(&report.commands[1]).processes.remove(0);
    assert_eq!(process.thp_disabled, Some(true));
    let mapping = &process.mappings[0];
    assert_eq!(mapping.possible(), [0, 0, 65_536]);
    assert!(!mapping.optimal);
    assert!(
        mapping
            .reasons
            .iter()
            .any(|note| note.code == "thp-disabled")
    );
    assert_eq!(report.commands[2].code(), 1);
}

/// Under a policy that this kernel asks: the possible leaves, and what is unknown without smaps.
#[test]
fn policies_that_the_kernel_asks() {
    for kernel in [kernel_that_asks(), "newest"] {
        let asks = version(kernel).asks_thp_policy();
        let report = machine(kernel)
            .run(&[
                map("0000:00:10.0 --bar 2 --hold")
                    .thp(Thp::Always)
                    .background("BAR 2"),
                inspect("{pid:0} --json"),
                inspect("{pid:0} --json").thp(Thp::Madvise),
                inspect("{pid:0} --json --smaps"),
                inspect("{pid:0} --json").thp(Thp::Never),
                inspect("{pid:0} --require 1G"),
                Command::new(["@signal", "0", "15"]),
                Command::new(["@wait", "0"]),
                // And an unhinted mapping.
                map("0000:00:10.0 --bar 2 --hint off --limit 0 --hold")
                    .thp(Thp::Madvise)
                    .background("BAR 2"),
                inspect("{pid:8} --json"),
                inspect("{pid:8} --require 1G"),
                inspect("{pid:8} --json --smaps"),
                inspect("{pid:8} --require 1G --smaps"),
            ])
            .unwrap();
        let [
            _,
            always,
            madvise,
            advised,
            never,
            required,
            _,
            _,
            _,
            unknown,
            perhaps,
            unhinted,
            refused,
        ] = &report.commands[..]
        else {
            panic!("{report:?}");
        };
        let seen = |output| {
            let mapping = Report::mappings(output).remove(0);
            let codes: Vec<_> = mapping.reasons.iter().map(|one| one.code.clone()).collect();
            (mapping.possible(), codes.concat())
        };
        let none = ([4, 0, 0], String::new());
        let asked = |leaves| match asks {
            true => (leaves, "thp-policy".to_owned()),
            false => none.clone(),
        };
        assert_eq!(seen(always), none, "{kernel}");
        assert_eq!(seen(madvise), asked([4, 0, 0]), "{kernel}");
        assert_eq!(seen(advised), none, "{kernel}: it is hinted");
        assert_eq!(seen(never), asked([0, 0, 1_048_576]), "{kernel}");
        assert_eq!(required.code(), i32::from(asks), "{kernel}");
        assert_eq!(seen(unknown), asked([4, 0, 0]), "{kernel}");
        assert!(perhaps.success(), "{perhaps:?}");
        let warned = perhaps.stderr().contains("THP policy may limit");
        assert_eq!(warned, asks, "{perhaps:?}");
        assert_eq!(seen(unhinted), asked([0, 0, 1_048_576]), "{kernel}");
        assert_eq!(refused.code(), i32::from(asks), "{refused:?}");
    }
}

/// Two devices with BARs of one size in one process: told apart by their own nodes, and where the kernel
/// shows physical addresses (6.1). By group all files of devices have one inode, and nothing is guessed.
#[test]
fn two_alike_in_one_process() {
    for (kernel, backend, told) in [
        ("6.1", "type1", true),
        ("6.12", "type1", false),
        ("newest", "type1", false),
        ("lab", "iommufd", true),
    ] {
        let both = format!("exercise mapped --backend {backend} 0000:00:10.0 0000:00:11.0");
        let report = with_exercise(kernel)
            .device("pci-testdev,membar=256M")
            .device("pci-testdev,membar=256M")
            .run(&[
                Command::new(both.split(' ')).background("mapped"),
                inspect("{pid:0} --json"),
                inspect("0000:00:11.0 --json"),
            ])
            .unwrap();
        let all = Report::of(&report.commands[1]).processes.remove(0);
        let of_one = Report::of(&report.commands[2]).processes.remove(0);
        let devices = ["0000:00:10.0", "0000:00:11.0"];
        assert_eq!(all.mappings.len(), 2, "{kernel}");
        let mut found: Vec<_> = all
            .mappings
            .iter()
            .filter_map(|own| own.device.as_deref())
            .collect();
        found.sort_unstable();
        if told {
            assert_eq!(found, devices, "{kernel}");
            assert_eq!(of_one.mappings.len(), 1, "{kernel}");
        } else {
            assert_eq!(found, [""; 0], "{kernel}");
            assert_eq!(of_one.mappings.len(), 2, "{kernel}: each may be the one");
        }
        for mapping in &all.mappings {
            let place = (mapping.region, mapping.offset);
            assert_eq!(place, (Some(2), Some(0)), "{kernel}: {mapping:?}");
            let vague = mapping.reasons.iter().any(|one| one.code == "device");
            assert_eq!(vague, !told, "{kernel}: {mapping:?}");
            assert_eq!(
                mapping.candidates.len(),
                if told { 0 } else { 2 },
                "{kernel}"
            );
        }
    }
}
