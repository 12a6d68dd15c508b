//! Lines of `resource` in sysfs: the addresses that the kernel has assigned to a function, and the windows of a bridge.

/// `IORESOURCE_MEM`, `IORESOURCE_PREFETCH`, `IORESOURCE_MEM_64` and `IORESOURCE_UNSET` of `include/linux/ioport.h`.
const MEMORY: u64 = 0x200;
const PREFETCH: u64 = 0x2000;
const WIDE: u64 = 0x10_0000;
const UNSET: u64 = 0x2000_0000;

/// A resource of a function: a BAR, its ROM, or a window of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resource {
    /// Physical address of the first byte; meaningless if [`Resource::has_address`] is false.
    pub start: u64,
    /// Size in bytes.
    pub size: u64,
    /// The flags of `include/linux/ioport.h`.
    pub flags: u64,
}

impl Resource {
    /// Whether it is memory, not I/O ports (`IORESOURCE_MEM`).
    pub fn is_memory(&self) -> bool {
        self.flags & MEMORY != 0
    }

    /// Whether it is prefetchable (`IORESOURCE_PREFETCH`).
    pub fn is_prefetchable(&self) -> bool {
        self.flags & PREFETCH != 0
    }

    /// Whether it is 64-bit, and so uses two BAR registers (`IORESOURCE_MEM_64`).
    pub fn is_64_bit(&self) -> bool {
        self.flags & WIDE != 0
    }

    /// Whether the kernel has assigned it an address (no `IORESOURCE_UNSET`).
    pub fn has_address(&self) -> bool {
        self.flags & UNSET == 0
    }

    /// Parses a line of `resource`: first byte, last byte and flags, all zero for an absent one. `None` if the line
    /// is invalid.
    pub fn parse(line: &str) -> Option<Option<Self>> {
        let mut numbers = line
            .split_ascii_whitespace()
            .map(|number| u64::from_str_radix(number.strip_prefix("0x")?, 16).ok());
        let (start, last, flags) = (numbers.next()??, numbers.next()??, numbers.next()??);
        if flags == 0 || (start == 0 && last == 0) {
            return Some(None);
        }
        let size = last.checked_sub(start)?.checked_add(1)?;
        Some(Some(Self { start, size, flags }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_bars() {
        let parse = |line| Resource::parse(line).unwrap();
        let memory = parse("0x0000380000000000 0x00003800ffffffff 0x000000000014220c").unwrap();
        assert_eq!((memory.start, memory.size), (0x3800_0000_0000, 4 << 30));
        assert!(memory.is_memory() && memory.is_prefetchable() && memory.has_address());
        let absent = "0x0000000000000000 0x0000000000000000 0x0000000000000000";
        assert_eq!(parse(absent), None);
        let ports = parse("0x000000000000c000 0x000000000000c01f 0x0000000000040101").unwrap();
        assert!(!ports.is_memory() && ports.has_address());
        let unset = parse("0x0000000000000000 0x00000000ffffffff 0x0000000020140204").unwrap();
        assert!(unset.is_memory() && !unset.is_prefetchable() && !unset.has_address());
        assert_eq!(unset.size, 4 << 30);
    }

    #[test]
    fn lines_that_make_no_sense() {
        for wrong in [
            "",
            "0x1",
            "0x2 0x1 0x200",
            "1 2 3",
            "0x0 0xffffffffffffffff 0x200",
        ] {
            assert_eq!(Resource::parse(wrong), None, "{wrong:?}");
        }
    }
}
