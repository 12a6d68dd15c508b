//! Checks that every BAR has an address: firmware and kernel can fail to find one, and go on.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::kmsg;

const DEVICES: &str = "/sys/bus/pci/devices";

/// The flags of a resource that are used here (`include/linux/ioport.h`).
const MEM: u64 = 0x200;
const MEM_64: u64 = 0x10_0000;
const UNSET: u64 = 0x2000_0000;

/// Offsets of the first BAR and of the header type in configuration space.
const FIRST_REGISTER: usize = 0x10;
const HEADER_TYPE: usize = 0x0e;

/// Fails if a memory BAR of any PCI function has no address, with the kernel's messages about it.
pub(crate) fn check() -> Result<()> {
    let records = kmsg::read()?;
    let records = String::from_utf8_lossy(&records);
    let log: Vec<_> = records.lines().map(kmsg::text).collect();
    let mut missing = Vec::new();
    for entry in fs::read_dir(DEVICES).context(DEVICES)? {
        let device = entry?.path();
        let address = device.file_name().unwrap_or_default().to_string_lossy();
        let read = |name: &str| {
            let path = device.join(name);
            fs::read(&path).with_context(|| Path::display(&path).to_string())
        };
        let resource = String::from_utf8_lossy(&read("resource")?).into_owned();
        for bar in without_address(&resource, &read("config")?, |bar| {
            is_memory(&log, &address, bar)
        }) {
            let why = reason(&log, &address, bar).unwrap_or("(the kernel's log does not say why)");
            missing.push(format!("{address} has no address for BAR {bar}: {why}"));
        }
    }
    missing.sort();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("{}", missing.join("; "))
}

/// The memory BARs without an address. `in_log` says whether the kernel has logged a BAR as memory.
///
/// I/O ports are left out: there are too few of them for many bridges, and they are not mapped.
fn without_address(resource: &str, config: &[u8], in_log: impl Fn(usize) -> bool) -> Vec<usize> {
    let count = match config.get(HEADER_TYPE).map(|kind| kind & 0x7f) {
        Some(0) => 6,
        Some(1) => 2,
        _ => 0,
    };
    let mut missing = Vec::new();
    let mut upper_half = false;
    for (bar, line) in resource.lines().take(count).enumerate() {
        if upper_half {
            upper_half = false;
            continue;
        }
        let numbers = line
            .split_whitespace()
            .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap_or_default());
        let [_, end, flags] = numbers.collect::<Vec<_>>()[..] else {
            continue;
        };
        if flags != 0 || end != 0 {
            upper_half = flags & MEM_64 != 0;
            if flags & MEM != 0 && flags & UNSET != 0 {
                missing.push(bar);
            }
            continue;
        }
        // Most kernels clear the resource of a BAR without an address. Its register still has its type, which
        // is zero for a non-prefetchable 32-bit BAR, as for an absent one.
        let register = register(config, bar);
        let is_io = register & 1 != 0;
        if !is_io && (register != 0 || in_log(bar)) {
            upper_half = register & 0b110 == 0b100;
            missing.push(bar);
        }
    }
    missing
}

fn register(config: &[u8], bar: usize) -> u32 {
    let at = FIRST_REGISTER + 4 * bar;
    let bytes = config
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok());
    u32::from_le_bytes(bytes.unwrap_or_default())
}

/// The text of a log line after the name of this BAR: `pci ADDRESS: BAR 2 …`, and, before Linux 6.8, also
/// `pci ADDRESS: reg 0x18: …`.
fn after_bar<'a>(line: &'a str, address: &str, bar: usize) -> Option<&'a str> {
    let (_, said) = line.split_once(&format!("{address}: "))?;
    let register = format!("reg 0x{:x}", FIRST_REGISTER + 4 * bar);
    [format!("BAR {bar}"), register]
        .iter()
        .find_map(|name| said.strip_prefix(name))
        .filter(|rest| rest.starts_with([' ', ':']))
}

fn is_memory(log: &[&str], address: &str, bar: usize) -> bool {
    log.iter()
        .filter_map(|line| after_bar(line, address, bar))
        .any(|said| said.contains("[mem "))
}

/// The kernel's line about this BAR: the last one, or the one before if that has the reason.
fn reason<'a>(log: &[&'a str], address: &str, bar: usize) -> Option<&'a str> {
    let about = || {
        let lines = log.iter().rev().copied();
        lines.filter(|line| after_bar(line, address, bar).is_some())
    };
    about()
        .find(|line| !line.contains("failed to assign"))
        .or(about().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &str = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
    const PLACED: &str = "0x0000008000000000 0x00000080ffffffff 0x000000000014220c\n";

    /// Configuration space with these registers.
    fn config(header: u8, registers: [u32; 6]) -> Vec<u8> {
        let mut config = vec![0; 64];
        config[HEADER_TYPE] = header;
        for (bar, register) in registers.into_iter().enumerate() {
            config[FIRST_REGISTER + 4 * bar..][..4].copy_from_slice(&register.to_le_bytes());
        }
        config
    }

    fn missing(resource: &str, config: &[u8]) -> Vec<usize> {
        without_address(resource, config, |_| false)
    }

    #[test]
    fn a_bar_that_the_kernel_forgot_is_seen_in_its_register() {
        let six = NONE.repeat(6);
        // The upper half of an address is not a BAR, whatever its content.
        let forgotten = config(0, [0, 0xc001, 0xc, 0x4000, 0, 0]);
        assert_eq!(missing(&six, &forgotten), [2]);
        assert_eq!(missing(&six, &config(0, [0; 6])), [0; 0]);
        // A bridge has bus numbers where other functions have BARs.
        assert_eq!(
            missing(&six, &config(0x81, [0, 0, 0xc, 0, 0, 0xf0])),
            [0; 0]
        );
    }

    #[test]
    fn a_bar_of_32_bits_is_known_from_the_log() {
        let six = NONE.repeat(6);
        let named = without_address(&six, &config(0, [0; 6]), |bar| bar == 4);
        assert_eq!(named, [4]);
    }

    #[test]
    fn a_bar_with_an_address_is_well_unless_the_kernel_says_it_is_not() {
        let placed = format!("{NONE}{NONE}{PLACED}{NONE}{NONE}{NONE}");
        let registers = config(0, [0, 0, 0xc, 0x80, 0, 0]);
        assert_eq!(missing(&placed, &registers), [0; 0]);
        let unset = placed.replace("0x000000000014220c", "0x000000002014220c");
        assert_eq!(missing(&unset, &registers), [2]);
    }

    #[test]
    fn the_kernel_is_quoted() {
        let log = [
            "pci 0000:00:10.0: BAR 2 [mem 0x00000000-0xffffffff 64bit pref]",
            "pci 0000:00:10.0: BAR 2 [mem size 0x100000000 64bit pref]: can't assign; no space",
            "pci 0000:00:10.0: BAR 2 [mem size 0x100000000 64bit pref]: failed to assign",
            "pci 0000:00:11.0: reg 0x10: [mem 0x00000000-0x00000fff]",
            "pci 0000:00:11.0: BAR 13: no space for [io size 0x1000]",
        ];
        assert_eq!(reason(&log, "0000:00:10.0", 2), Some(log[1]));
        assert_eq!(reason(&log, "0000:00:10.0", 0), None);
        assert_eq!(reason(&log[2..], "0000:00:10.0", 2), Some(log[2]));
        assert!(is_memory(&log, "0000:00:11.0", 0));
        assert!(!is_memory(&log, "0000:00:11.0", 1));
    }
}
