//! A QEMU of Debian's inside the guest, unmodified, with devices of the guest passed through.

use std::time::Duration;

use hugebar_lab_guest::Command;

use crate::debian::Fetched;

/// The last message of its firmware, which is all that runs in it: there is no disk. Its devices are mapped by then.
pub const READY: &str = "No bootable device";

/// How long that may take. If it takes longer, the commands that follow fail and show why.
const LIMIT: Duration = Duration::from_secs(90);

/// Starts it in the background with these PCI devices, on an emulated processor. It touches none of their BARs.
pub fn command(qemu: &Fetched, devices: &[&str]) -> Command {
    let data = qemu.data();
    let passed = devices
        .iter()
        .map(|device| format!(" -device vfio-pci,host={device}"));
    let passed: String = passed.collect();
    qemu.command(&format!(
        "-L {data} -name lab,process=qemu-system-x86 -M q35 -accel tcg -m 64 -nodefaults -display none \
         -debugcon stdio -global isa-debugcon.iobase=0x402{passed}"
    ))
    // Version 7.2 has its emulated processor in a file of its own.
    .env("QEMU_MODULE_DIR", data)
    .background(READY)
    .time_limit(LIMIT)
}
