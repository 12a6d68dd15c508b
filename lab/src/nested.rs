//! A QEMU of Debian's inside the guest, unmodified, with devices of the guest passed through.

use std::time::Duration;

use hugebar_lab_guest::Command;

use crate::debian::Fetched;

/// The last message of its firmware, which is all that runs in it: there is no disk. Its devices are mapped by then.
pub const READY: &str = "No bootable device";

/// How long that may take. If it takes longer, the commands that follow fail and show why.
const LIMIT: Duration = Duration::from_secs(90);

/// The last word of the firmware that reads from a BAR, after three times in hexadecimal units of the CPU's time-stamp counter: to
/// let the device decode memory, to read from every 2 MiB, and to read once more.
pub const TOUCHED: &str = "touched";

/// Starts it in the background with these PCI devices, on an emulated processor. It touches none of their BARs.
pub fn command(qemu: &Fetched, devices: &[&str]) -> Command {
    let passed = devices
        .iter()
        .map(|device| format!(" -device vfio-pci,host={device}"));
    let passed: String = passed.collect();
    start(qemu, &format!("-accel tcg{passed}"), READY)
        // Version 7.2 has its emulated processor in a file of its own.
        .env("QEMU_MODULE_DIR", qemu.data())
}

/// Starts it in the background with a device, by KVM, and with firmware that reads from 4 GiB of the device's BAR 2: a file that
/// `exercise firmware` has written.
pub fn touching(qemu: &Fetched, device: &str, firmware: &str) -> Command {
    let arguments =
        format!("-accel kvm -cpu host -bios {firmware} -device vfio-pci,host={device},addr=0x4");
    start(qemu, &arguments, TOUCHED)
}

fn start(qemu: &Fetched, arguments: &str, ready: &str) -> Command {
    let data = qemu.data();
    qemu.command(&format!(
        "-L {data} -name lab,process=qemu-system-x86 -M q35 -m 64 -nodefaults -display none \
         -debugcon stdio -global isa-debugcon.iobase=0x402 {arguments}"
    ))
    .background(ready)
    .time_limit(LIMIT)
}
