//! Sizes of BARs of virtual functions for which the kernel has found no room. Their lines in `resource` read 0, on Linux 6.1
//! to 7.3 (`reset_resource` of `drivers/pci/setup-bus.c`), and their registers hold addresses: only the kernel's log has the
//! sizes, as long as it keeps its first messages.

use hugebar::pci::Address;

use crate::kernel_log;

/// Index of the first BAR of virtual functions among a physical function's resources (`PCI_IOV_RESOURCES`): after its own
/// six and the ROM. A bridge may have its windows there.
pub(super) const FIRST: usize = 7;
pub(super) const COUNT: usize = 6;

/// By the number of the BAR: for as many virtual functions as the device can have.
pub(super) type Sizes = [Option<u64>; COUNT];

/// The sizes that the log tells for a function, as far as this process may read it.
pub(super) fn logged(address: Address) -> Sizes {
    sizes(address, &kernel_log::lines(is_failure).unwrap_or_default())
}

fn is_failure(line: &str) -> bool {
    line.contains("failed to assign") && line.contains("BAR ")
}

/// The last message about a BAR counts: the kernel may have tried again since.
fn sizes(address: Address, lines: &[String]) -> Sizes {
    let mut sizes = Sizes::default();
    for line in lines {
        if let Some((bar, size)) = size(address, line) {
            if let Some(own) = sizes.get_mut(bar) {
                *own = Some(size);
            }
        }
    }
    sizes
}

/// `pci 0000:01:00.0: VF BAR 0 [mem size 0x001fc000 64bit]: failed to assign`; with other kernels
/// `pci 0000:01:00.0: BAR 7: failed to assign [mem size 0x001fc000 64bit]`.
fn size(address: Address, line: &str) -> Option<(usize, u64)> {
    let (_, message) = line.split_once(&format!(" {address}: "))?;
    let (number, before) = match message.strip_prefix("VF BAR ") {
        Some(number) => (number, 0),
        None => (message.strip_prefix("BAR ")?, FIRST),
    };
    let bar: usize = until(number, |c| c.is_ascii_digit()).parse().ok()?;
    let (_, size) = message.split_once("[mem size 0x")?;
    let size = u64::from_str_radix(until(size, |c| c.is_ascii_hexdigit()), 16).ok()?;
    Some((bar.checked_sub(before)?, size))
}

/// The characters before the first that is not `wanted`.
fn until(text: &str, wanted: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c| !wanted(c)).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_has_said() {
        let own = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
            assert!(lines.iter().all(|line| is_failure(line)));
            sizes("0000:01:00.0".parse().unwrap(), &lines)
        };
        let recent = "[    3.442684] pci 0000:01:00.0: VF BAR 2 [mem size 0x001fc000 64bit]: failed to assign";
        let older = "[    3.442684] pci 0000:01:00.0: BAR 9: failed to assign [mem size 0x00200000 64bit pref]";
        for (line, size) in [(recent, 0x1f_c000), (older, 0x20_0000)] {
            assert_eq!(own(&[line]), [None, None, Some(size), None, None, None]);
        }
        // The last one counts.
        assert_eq!(own(&[recent, older])[2], Some(0x20_0000));
        // BARs of its own, other functions, ports.
        for line in [
            "[    3.0] pci 0000:01:00.0: BAR 2 [mem size 0x001fc000 64bit]: failed to assign",
            "[    3.0] pci 0000:01:00.0: BAR 14: failed to assign [mem size 0x00200000]",
            "[    3.0] pci 0000:01:00.1: VF BAR 2 [mem size 0x001fc000 64bit]: failed to assign",
            "[    3.0] pci 0000:01:00.0: VF BAR 2 [io  size 0x0100]: failed to assign",
        ] {
            assert_eq!(own(&[line]), Sizes::default(), "{line}");
        }
    }
}
