//! Uses in folders that imitate sysfs.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

const DEVICE: &str = "sys/devices/pci0000:00/0000:00:10.0";

/// A function with a driver, in a folder that imitates a host.
struct Host(tempfile::TempDir);

impl Host {
    fn new(driver: &str, class: &str) -> Self {
        let own = Self(tempfile::tempdir().unwrap());
        own.put(&format!("{DEVICE}/class"), class);
        let devices = own.0.path().join("sys/bus/pci/devices");
        fs::create_dir_all(&devices).unwrap();
        let link = |to: &str, name: &Path| symlink(own.0.path().join(to), name).unwrap();
        link(DEVICE, &devices.join("0000:00:10.0"));
        link(
            &format!("sys/bus/pci/drivers/{driver}"),
            &own.0.path().join(DEVICE).join("driver"),
        );
        own
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// An object below the function, with the number of its device file.
    fn object(&self, path: &str, class: &str, number: &str) {
        let path = format!("{DEVICE}/{path}");
        self.put(&format!("{path}/uevent"), "");
        if !number.is_empty() {
            self.put(&format!("{path}/dev"), number);
        }
        let link = self.0.path().join(path).join("subsystem");
        symlink(format!("../../class/{class}"), link).unwrap();
    }

    fn uses(&self) -> Vec<Use> {
        let tree = Tree::at(self.0.path());
        let function = tree.function("0000:00:10.0".parse().unwrap()).unwrap();
        of(&tree, &function).unwrap()
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let uses = self.uses().into_iter();
        uses.map(|own| (own.code, own.fact)).collect()
    }
}

#[test]
fn interfaces_that_are_up_or_members_or_elsewhere() {
    let host = Host::new("virtio-pci", "0x020000\n");
    host.object("virtio0", "virtio", "");
    host.object("virtio0/net/eth0", "net", "");
    let flags = format!("{DEVICE}/virtio0/net/eth0/flags");
    host.put(&flags, "0x1002\n");
    assert_eq!(host.uses(), []);
    host.put(&flags, "0x1003\n");
    assert_eq!(host.facts(), [("network", "eth0 is up".to_owned())]);
    host.put(&flags, "0x1002\n");
    host.put(&format!("{DEVICE}/virtio0/net/eth0/upper_bond0/x"), "");
    let member = ("network-member", "eth0 is a member of bond0".to_owned());
    assert_eq!(host.facts(), [member]);
    // In another namespace: only the folder of interfaces is seen.
    fs::remove_dir_all(host.0.path().join(DEVICE).join("virtio0/net/eth0")).unwrap();
    assert_eq!(host.uses()[0].code, "network");
    assert!(host.uses()[0].fact.contains("another network namespace"));
}

#[test]
fn clients_of_graphics_and_sound_are_found_by_number() {
    let null = File::open("/dev/null").unwrap();
    let host = Host::new("snd_hda_intel", "0x040300\n");
    // The number of /dev/null stands in for a node's; of other drivers' functions behind it nothing counts.
    host.object("sound/card0", "sound", "");
    host.object("sound/card0/controlC0", "sound", "1:3");
    host.object("0000:01:00.0/drm/card7", "drm", "1:3");
    let own = format!("process {} (", std::process::id());
    let clients = || -> Vec<_> {
        let facts = host.facts().into_iter();
        facts.filter(|(_, fact)| fact.starts_with(&own)).collect()
    };
    let [(code, fact)] = &clients()[..] else {
        panic!("{:?}", host.facts());
    };
    assert_eq!(*code, "sound-client");
    assert!(fact.ends_with("has controlC0 open"), "{fact}");
    host.put(&format!("{DEVICE}/sound/card0/controlC0/dev"), "1:253");
    assert_eq!(clients(), []);
    drop(null);
}

#[test]
fn the_node_of_a_gpu_of_nvidia() {
    let text = "Model: \t\t NVIDIA H100 PCIe\nIRQ:   \t\t 77\nBus Location: \t 0000:01:00.0\nDevice Minor: \t 3\n";
    assert_eq!(clients::nvidia(text), Some(3));
    assert_eq!(clients::nvidia("Model: Device Minor\n"), None);
    let host = Host::new("nvidia", "0x030200\n");
    host.put("proc/driver/nvidia/gpus/0000:00:10.0/information", text);
    assert_eq!(host.uses(), []);
}

#[test]
fn the_screen_of_the_console_and_usb_hosts_with_disk_and_keyboard() {
    let host = Host::new("nouveau", "0x030000\n");
    host.put(&format!("{DEVICE}/boot_vga"), "0\n");
    assert_eq!(host.uses(), []);
    host.put(&format!("{DEVICE}/boot_vga"), "1\n");
    assert_eq!(host.uses()[0].code, "console");

    let host = Host::new("xhci_hcd", "0x0c0330\n");
    host.object("usb1", "usb", "");
    host.object("usb1/1-1/host0/block/sda", "block", "250:77");
    let device = |path: &str, handlers: &str| {
        format!(
            "I: Bus=0003\nN: Name=\"A keyboard\"\nS: Sysfs=/devices/{path}/input/input3\nH: Handlers={handlers} \n\n"
        )
    };
    let own = "pci0000:00/0000:00:10.0/usb1";
    let inputs =
        device("pci0000:00/0000:00:11.0/usb2", "sysrq kbd event0") + &device(own, "mouse0 event1");
    host.put("proc/bus/input/devices", &inputs);
    let codes = || -> Vec<_> { host.uses().into_iter().map(|own| own.code).collect() };
    // This host has no such disk, so it cannot be opened.
    assert_eq!(codes(), ["unknown", "usb-disk"]);
    host.put(
        "proc/bus/input/devices",
        &(inputs + &device(own, "sysrq kbd event2")),
    );
    assert_eq!(codes(), ["unknown", "usb-disk", "usb-keyboard"]);
}

#[test]
fn what_a_function_itself_says() {
    let bridge = Host::new("pcieport", "0x060400\n").uses();
    assert_eq!((bridge[0].code, bridge[0].can_be_forced), ("bridge", false));
    let host = Host::new("ixgbe", "0x020000\n");
    assert_eq!(host.uses(), []);
    for number in 0..2 {
        let link = format!("{DEVICE}/virtfn{number}");
        let target = format!("../0000:00:10.{}", number + 1);
        symlink(target, host.0.path().join(link)).unwrap();
    }
    let fact = "it has 2 virtual functions".to_owned();
    assert_eq!(host.facts(), [("virtual-functions", fact)]);
    let host = Host::new("vmd", "0x010400\n");
    assert_eq!(host.uses()[0].code, "vmd");
    let host = Host::new("other", "0x010400\n");
    host.put(&format!("{DEVICE}/pci10000:00/x"), "");
    assert_eq!(host.uses()[0].code, "vmd");
}

#[test]
fn files_say_what_claims_a_disk() {
    let host = Host::new("nvme", "0x010802\n");
    host.object("nvme/nvme0/nvme0n1", "block", "259:0");
    host.object("nvme/nvme0/nvme0n1/nvme0n1p1", "block", "259:1");
    host.object("nvme/nvme0/nvme0n1/nvme0n1p2", "block", "259:2");
    let disk = format!("{DEVICE}/nvme/nvme0/nvme0n1");
    for part in ["nvme0n1p1", "nvme0n1p2"] {
        host.put(&format!("{disk}/{part}/partition"), "1\n");
    }
    host.put(
        &format!("{disk}/nvme0n1p2/holders/dm-0/dm/name"),
        "vg-root\n",
    );
    host.put("proc/swaps", "Filename Type\n/dev/nvme0n1 partition\n");
    host.put(
        "proc/self/mountinfo",
        "22 1 259:1 / /boot rw - ext4 /dev/root rw\n23 1 0:30 / /data rw - btrfs /dev/nvme0n1p2 rw\n24 1 0:5 / /dev rw - devtmpfs none rw",
    );
    let tree = Tree::at(host.0.path());
    let below = Below::read(&host.0.path().join(DEVICE));
    let own = below.of("block").find(|own| own.name == "nvme0n1").unwrap();
    assert_eq!(
        block::claims(&tree, own),
        [
            "nvme0n1 is swap",
            "nvme0n1p1 is mounted on /boot",
            "nvme0n1p2 is mounted on /data",
            "nvme0n1p2 is a part of dm-0 (vg-root)"
        ]
    );
    // A path of a namespace with several: the disk is looked at, wherever it lies.
    assert_eq!(block::head(&tree, "nvme0c1n3").unwrap().name, "nvme0n3");
    assert_eq!(block::head(&tree, "nvme0n1"), None);
}
