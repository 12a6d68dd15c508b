//! Firmware's demands for devices (RMRR), from our own DMAR table.

use hugebar_lab::{Command, Spec};

use crate::report::{machine, map};

/// The table of the machine's firmware.
const DMAR: &str = "/sys/firmware/acpi/tables/DMAR";

/// A page that the firmware reserves, as a demand requires.
const PAGE: u64 = 0xfffc_0000;

/// The table with a demand (RMRR) for each of these devices of bus 0.
fn demanding(table: &[u8], devices: &[u8]) -> Vec<u8> {
    let mut table = table.to_vec();
    for (number, device) in (0..).zip(devices) {
        let base = PAGE + number * 0x1000;
        // Type 1, 32 bytes, segment 0.
        table.extend([1, 0, 32, 0, 0, 0, 0, 0]);
        table.extend(base.to_le_bytes());
        table.extend((base + 0xfff).to_le_bytes());
        // An endpoint, 8 bytes, on bus 0, by device and function.
        table.extend([1, 8, 0, 0, 0, 0, *device, 0]);
    }
    let length = u32::try_from(table.len()).unwrap();
    table[4..8].copy_from_slice(&length.to_le_bytes());
    // A revision that replaces the firmware's, then a sum of 0.
    table[24..28].copy_from_slice(&0x7fff_u32.to_le_bytes());
    table[9] = 0;
    let sum = table
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
    table[9] = sum.wrapping_neg();
    table
}

fn doctor(device: &str) -> Command {
    Command::new(["hugebar", "doctor", device])
}

/// The machine, with a test device and a USB controller.
fn spec(kernel: &str) -> Spec {
    machine(kernel)
        .device("pci-testdev,membar=256M")
        .device("qemu-xhci")
}

#[test]
fn memory_that_firmware_demands() {
    let dump = spec("newest")
        .no_modules()
        .run(&[Command::new(["@cat", DMAR])]);
    let table = dump.unwrap().commands.remove(0).stdout;
    assert_eq!(&table[..4], b"DMAR");
    // A demand for the test device, which cannot be used, and one for the controller, which can.
    let table = demanding(&table, &[0x10, 0x11]);

    for (kernel, backend, step) in [
        ("6.1", "type1", "/dev/vfio/"),
        ("6.12", "type1", "/dev/vfio/"),
        ("newest", "type1", "/dev/vfio/"),
        ("lab", "iommufd", "VFIO_DEVICE_"),
    ] {
        let groups = "/sys/bus/pci/devices/0000:00:10.0/iommu_group/reserved_regions";
        let report = spec(kernel)
            .acpi_table(table.clone())
            .run(&[
                Command::new(["@cat", groups]),
                doctor("0000:00:10.0"),
                map(&format!("0000:00:10.0 --bar 2 --backend {backend}")),
                doctor("0000:00:11.0"),
                map(&format!("0000:00:11.0 --bar 0 --backend {backend}")),
            ])
            .unwrap();
        let [regions, blocked, refused, free, mapped] = &report.commands[..] else {
            panic!("{report:?}");
        };
        assert!(
            regions.stdout().contains("0x00000000fffc0fff direct\n"),
            "{kernel}: {regions:?}"
        );
        assert_eq!(blocked.code(), 1, "{kernel}: {blocked:?}");
        let range = "0xfffc0000-0xfffc0fff";
        assert!(blocked.stdout().contains(range), "{blocked:?}");
        assert_eq!(refused.code(), 2, "{kernel}: {refused:?}");
        for words in [step, range, "firmware"] {
            assert!(refused.stderr().contains(words), "{words}: {refused:?}");
        }
        assert_eq!(refused.stderr().lines().count(), 1, "{refused:?}");
        assert!(!free.stdout().contains("firmware demands"), "{free:?}");
        assert_eq!(mapped.code(), 0, "{kernel}: {mapped:?}");
    }
}
