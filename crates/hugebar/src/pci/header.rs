//! The header of configuration space: its first 64 bytes, which every user may read in sysfs.

use super::resource::Resource;

/// `PCI_HEADER_TYPE` of `linux/pci_regs.h`, and its multi-function bit.
const HEADER_TYPE: usize = 0x0e;
const MULTIFUNCTION: u8 = 0x80;
/// `PCI_BASE_ADDRESS_0`, and its low bits.
const FIRST_BAR: usize = 0x10;
const IO: u32 = 1;
const TYPE: u32 = 3 << 1;
const TYPE_64: u32 = 2 << 1;
const PREFETCH: u32 = 1 << 3;

/// A BAR without an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unassigned {
    /// Its number.
    pub bar: u8,
    /// Size in bytes, if sysfs has it, which is rare.
    pub size: Option<u64>,
    /// Whether it is 64-bit.
    pub is_64_bit: bool,
    /// Whether it is prefetchable.
    pub is_prefetchable: bool,
}

/// The first 64 bytes of a function's configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header([u8; 64]);

impl Header {
    /// Makes a header from bytes that were read elsewhere.
    pub fn new(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Whether the device answers: without an answer every bit reads 1.
    ///
    /// That happens if a device has fallen off the bus, does not wake up, or has no link. The IDs of a virtual
    /// function also read all ones, but its header type is 0.
    pub fn answers(&self) -> bool {
        self.0[HEADER_TYPE] != 0xff
    }

    /// The BARs without an address. Linux leaves them as an all-zero line in `resource`, with or without
    /// `IORESOURCE_UNSET`, although the register of the BAR is not zero.
    ///
    /// The register of a non-prefetchable 32-bit BAR is then zero, like that of an absent BAR, so
    /// the two cannot be told apart ([`Header::absent_or_unassigned`]).
    pub fn without_address(&self, resources: &[Option<Resource>]) -> Vec<Unassigned> {
        let mut found = Vec::new();
        for (bar, register, resource) in self.bars(resources) {
            let lacks = match resource {
                Some(own) => own.is_memory() && !own.has_address(),
                None => register & IO == 0 && register != 0,
            };
            if lacks {
                found.push(Unassigned {
                    bar,
                    size: resource.map(|own| own.size),
                    is_64_bit: is_64_bit(register),
                    is_prefetchable: register & PREFETCH != 0,
                });
            }
        }
        found
    }

    /// The BARs that are either absent, or 32-bit, non-prefetchable and without an address: in both cases the register
    /// reads 0, and so does the line in `resource`, unless the kernel has flagged it.
    pub fn absent_or_unassigned(&self, resources: &[Option<Resource>]) -> Vec<u8> {
        let bars = self.bars(resources).into_iter();
        bars.filter(|(_, register, resource)| *register == 0 && resource.is_none())
            .map(|(bar, ..)| bar)
            .collect()
    }

    /// The BARs with their registers and the kernel's resources, without the upper halves of addresses, which
    /// are not separate BARs.
    fn bars(&self, resources: &[Option<Resource>]) -> Vec<(u8, u32, Option<Resource>)> {
        let bars = match self.0[HEADER_TYPE] & !MULTIFUNCTION {
            0 => 6,
            1 => 2,
            _ => 0,
        };
        let mut found = Vec::new();
        let mut bar = 0;
        while bar < bars {
            let register = self.register(usize::from(bar));
            let resource = resources.get(usize::from(bar)).copied().flatten();
            found.push((bar, register, resource));
            // All registers of a virtual function read 0, but the kernel knows.
            let wide = is_64_bit(register) || resource.is_some_and(|own| own.is_64_bit());
            bar += if wide { 2 } else { 1 };
        }
        found
    }

    fn register(&self, bar: usize) -> u32 {
        let start = FIRST_BAR + 4 * bar;
        let bytes = self.0.get(start..start + 4);
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    }
}

fn is_64_bit(register: u32) -> bool {
    register & IO == 0 && register & TYPE == TYPE_64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(registers: &[u32]) -> Header {
        let mut bytes = [0; 64];
        bytes[0] = 0x36;
        bytes[1] = 0x1b;
        for (bar, register) in registers.iter().enumerate() {
            bytes[FIRST_BAR + 4 * bar..][..4].copy_from_slice(&register.to_le_bytes());
        }
        Header::new(bytes)
    }

    fn lines(text: &str) -> Vec<Option<Resource>> {
        text.lines()
            .map(|line| Resource::parse(line).unwrap())
            .collect()
    }

    /// A BAR as `pci=resource_alignment` leaves it in the lab: no flag, no address, only the register's low bits.
    #[test]
    fn a_register_that_is_not_zero_tells_of_a_bar_without_address() {
        let zero = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
        let small = "0x00000000febd0000 0x00000000febd0fff 0x0000000000040200\n";
        let resources = lines(&format!("{small}{zero}{zero}{zero}{zero}{zero}"));
        let found = header(&[0xfebd_0000, 0, 0x0c, 0]).without_address(&resources);
        let expected = Unassigned {
            bar: 2,
            size: None,
            is_64_bit: true,
            is_prefetchable: true,
        };
        assert_eq!(found, [expected]);
        // Assigned BARs, I/O ports, upper halves, and a BAR that looks absent.
        let found = header(&[0xfebd_0000, 1, 0, 0, 0, 0]).without_address(&resources);
        assert_eq!(found, []);
        let upper = lines(&format!("{zero}{small}{zero}{zero}{zero}{zero}"));
        assert_eq!(header(&[0x0c, 0x40]).without_address(&upper).len(), 1);
    }

    #[test]
    fn a_register_that_is_zero_tells_nothing() {
        let zero = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
        let wide = "0x0000380000000000 0x000038000fffffff 0x000000000014220c\n";
        let ports = "0x000000000000c000 0x000000000000c0ff 0x0000000000040101\n";
        let unset = "0x0000000000000000 0x000000000000ffff 0x0000000020040200\n";
        // BAR 0 is assigned, with its upper half in BAR 1; BAR 2 lacks an address, BAR 4 is I/O.
        let resources = lines(&format!("{wide}{zero}{zero}{zero}{ports}{zero}"));
        let own = header(&[0x0c, 0x3800, 0x0c, 0, 0xc001, 0]);
        assert_eq!(own.absent_or_unassigned(&resources), [5]);
        // The registers of a virtual function all read 0.
        assert_eq!(
            header(&[]).absent_or_unassigned(&resources),
            [2, 3, 5],
            "the upper half is none"
        );
        // The kernel has flagged it.
        let resources = lines(&format!("{unset}{zero}{zero}{zero}{zero}{zero}"));
        assert_eq!(
            header(&[]).absent_or_unassigned(&resources),
            [1, 2, 3, 4, 5]
        );
        let mut bridge = [0; 64];
        bridge[HEADER_TYPE] = 0x81;
        assert_eq!(Header::new(bridge).absent_or_unassigned(&[]), [0, 1]);
    }

    #[test]
    fn the_kernels_flag_counts_as_well() {
        let unset = "0x0000000000000000 0x00000000ffffffff 0x0000000020140204\n";
        let found = header(&[0x0c]).without_address(&lines(unset));
        assert_eq!((found[0].bar, found[0].size), (0, Some(1 << 32)));
    }

    #[test]
    fn nothing_but_ones_is_no_answer() {
        assert!(header(&[]).answers());
        assert!(!Header::new([0xff; 64]).answers());
        assert_eq!(Header::new([0xff; 64]).without_address(&[]), []);
        let mut virtual_function = [0; 64];
        virtual_function[..4].fill(0xff);
        assert!(Header::new(virtual_function).answers());
    }
}
