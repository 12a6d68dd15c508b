//! The two lists of capabilities in configuration space.

/// `PCI_STATUS` and its bit for a capability list.
const STATUS: u16 = 0x06;
const STATUS_CAP_LIST: u8 = 0x10;
/// `PCI_CAPABILITY_LIST`: offset of the first capability.
const CAPABILITY_LIST: u16 = 0x34;
/// The lowest offsets of capabilities: after the header, and after the first 256 bytes.
const FIRST: u16 = 0x40;
const FIRST_EXTENDED: u16 = 0x100;
/// The size of configuration space.
const SIZE: usize = 4096;

/// A capability in the first 256 bytes of configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The id (`PCI_CAP_ID_*` of `linux/pci_regs.h`).
    pub id: u8,
    /// The offset of its first byte.
    pub offset: u16,
}

impl Capability {
    /// Power management.
    pub const POWER: u8 = 0x01;
    /// Message-signalled interrupts (MSI).
    pub const MSI: u8 = 0x05;
    /// Vendor-specific.
    pub const VENDOR: u8 = 0x09;
    /// PCI Express.
    pub const EXPRESS: u8 = 0x10;
    /// Message-signalled interrupts with a table (MSI-X).
    pub const MSIX: u8 = 0x11;
    /// Advanced features: those of PCI Express for conventional PCI, such as function reset.
    pub const ADVANCED_FEATURES: u8 = 0x13;
}

/// A capability in extended configuration space, beyond the first 256 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedCapability {
    /// The id (`PCI_EXT_CAP_ID_*` of `linux/pci_regs.h`).
    pub id: u16,
    /// The version of the capability.
    pub version: u8,
    /// The offset of its first byte.
    pub offset: u16,
}

impl ExtendedCapability {
    /// Advanced error reporting.
    pub const ERRORS: u16 = 0x01;
    /// The device's serial number.
    pub const SERIAL: u16 = 0x03;
    /// Single-root I/O virtualization.
    pub const SRIOV: u16 = 0x10;
    /// Resizable BARs.
    pub const RESIZABLE_BAR: u16 = 0x15;
    /// Resizable BARs of virtual functions.
    pub const VF_RESIZABLE_BAR: u16 = 0x24;
}

/// Offsets already visited, so that a cyclic list ends.
#[derive(Clone, Debug)]
struct Seen([u64; SIZE / 4 / 64]);

impl Seen {
    /// Whether an offset is visited for the first time.
    fn first(&mut self, offset: u16) -> bool {
        let word = usize::from(offset / 4);
        let (bits, bit) = (&mut self.0[word / 64 % (SIZE / 4 / 64)], 1 << (word % 64));
        let first = *bits & bit == 0;
        *bits |= bit;
        first
    }
}

/// Iterates over the capabilities in the first 256 bytes, in list order. It ends with the list, when the list leaves its
/// bounds or becomes cyclic, and after an error of the reader.
///
/// `R` reads bytes of configuration space at an offset: of an open device, or of the file `config` in sysfs.
#[derive(Clone, Debug)]
pub struct Capabilities<R> {
    read: R,
    next: Next,
    seen: Seen,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Start,
    At(u16),
    End,
}

impl<E, R: FnMut(u16, &mut [u8]) -> Result<(), E>> Capabilities<R> {
    /// Starts at the head of the list.
    pub fn new(read: R) -> Self {
        Self {
            read,
            next: Next::Start,
            seen: Seen([0; SIZE / 4 / 64]),
        }
    }

    fn step(&mut self) -> Result<Option<Capability>, E> {
        let offset = match std::mem::replace(&mut self.next, Next::End) {
            Next::Start => {
                let mut status = [0; 2];
                (self.read)(STATUS, &mut status)?;
                if status[0] & STATUS_CAP_LIST == 0 {
                    return Ok(None);
                }
                let mut pointer = [0; 1];
                (self.read)(CAPABILITY_LIST, &mut pointer)?;
                u16::from(pointer[0] & !3)
            }
            Next::At(offset) => offset,
            Next::End => return Ok(None),
        };
        if offset < FIRST || !self.seen.first(offset) {
            return Ok(None);
        }
        let mut header = [0; 2];
        (self.read)(offset, &mut header)?;
        let [id, next] = header;
        // A device that does not answer reads as all ones.
        if id == 0xff {
            return Ok(None);
        }
        self.next = Next::At(u16::from(next & !3));
        Ok(Some(Capability { id, offset }))
    }
}

impl<E, R: FnMut(u16, &mut [u8]) -> Result<(), E>> Iterator for Capabilities<R> {
    type Item = Result<Capability, E>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// Iterates over the capabilities in extended configuration space, like [`Capabilities`]. It reads 4 bytes at a time, from
/// 0x100 on; the caller must know that this space exists.
#[derive(Clone, Debug)]
pub struct ExtendedCapabilities<R> {
    read: R,
    next: Next,
    seen: Seen,
}

impl<E, R: FnMut(u16, &mut [u8]) -> Result<(), E>> ExtendedCapabilities<R> {
    /// Starts at the head of the list.
    pub fn new(read: R) -> Self {
        Self {
            read,
            next: Next::Start,
            seen: Seen([0; SIZE / 4 / 64]),
        }
    }

    fn step(&mut self) -> Result<Option<ExtendedCapability>, E> {
        let offset = match std::mem::replace(&mut self.next, Next::End) {
            Next::Start => FIRST_EXTENDED,
            Next::At(offset) => offset,
            Next::End => return Ok(None),
        };
        if offset < FIRST_EXTENDED || !self.seen.first(offset) {
            return Ok(None);
        }
        let mut header = [0; 4];
        (self.read)(offset, &mut header)?;
        // Empty, or a device that does not answer.
        if matches!(u32::from_le_bytes(header), 0 | u32::MAX) {
            return Ok(None);
        }
        let [low, high, version, next] = header;
        self.next = Next::At(u16::from_le_bytes([version, next]) >> 4 & !3);
        Ok(Some(ExtendedCapability {
            id: u16::from_le_bytes([low, high]),
            version: version & 0xf,
            offset,
        }))
    }
}

impl<E, R: FnMut(u16, &mut [u8]) -> Result<(), E>> Iterator for ExtendedCapabilities<R> {
    type Item = Result<ExtendedCapability, E>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reader(space: &[u8]) -> impl FnMut(u16, &mut [u8]) -> Result<(), u16> {
        |offset, buffer| {
            let start = usize::from(offset);
            let bytes = space.get(start..start + buffer.len()).ok_or(offset)?;
            buffer.copy_from_slice(bytes);
            Ok(())
        }
    }

    fn standard(space: &[u8]) -> Vec<(u8, u16)> {
        let all = Capabilities::new(reader(space)).map(Result::unwrap);
        all.map(|own| (own.id, own.offset)).collect()
    }

    fn extended(space: &[u8]) -> Vec<(u16, u8, u16)> {
        let all = ExtendedCapabilities::new(reader(space)).map(Result::unwrap);
        all.map(|own| (own.id, own.version, own.offset)).collect()
    }

    fn put(space: &mut [u8], offset: usize, word: u32) {
        space[offset..offset + 4].copy_from_slice(&word.to_le_bytes());
    }

    #[test]
    fn lists_are_followed_to_their_ends() {
        let mut space = [0; 4096];
        assert_eq!((standard(&space), extended(&space)), (vec![], vec![]));
        space[0x34] = 0x43;
        assert_eq!(standard(&space), [], "no capability list");
        space[0x06] = 0x10;
        // The lowest two bits of a pointer are reserved.
        put(&mut space, 0x40, 0x8201);
        put(&mut space, 0x80, 0x3c05);
        put(&mut space, 0x100, 0x1481_0001);
        put(&mut space, 0x148, 0x1002_0015);
        assert_eq!(standard(&space), [(1, 0x40), (5, 0x80)]);
        assert_eq!(extended(&space), [(1, 1, 0x100), (0x15, 2, 0x148)]);
    }

    #[test]
    fn what_does_not_answer_has_none() {
        let ones = [0xff; 4096];
        assert_eq!((standard(&ones), extended(&ones)), (vec![], vec![]));
    }

    #[test]
    fn an_error_ends_a_list() {
        let mut space = [0; 256];
        space[0x06] = 0x10;
        let mut none = ExtendedCapabilities::new(reader(&space));
        assert_eq!(none.next(), Some(Err(0x100)));
        assert_eq!(none.next(), None);
        let mut cut = Capabilities::new(reader(&space[..0x34]));
        assert_eq!(cut.next(), Some(Err(0x34)));
        assert_eq!(cut.next(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_end_and_come_once(
            mut space in prop::collection::vec(any::<u8>(), 4096),
            dense in prop::collection::vec((0x10_u16..0x400, 0x10_u32..0x400), 0..64),
        ) {
            space[0x06] |= 0x10;
            for (from, to) in dense {
                let from = usize::from(from) * 4;
                put(&mut space, from, to << 22 | 0x1_0001);
                space[from + 1] = (to * 4).to_le_bytes()[0];
            }
            let (standard, extended) = (standard(&space), extended(&space));
            let mut offsets: Vec<_> = standard.iter().map(|own| own.1).collect();
            prop_assert!(offsets.iter().all(|own| (0x40..0x100).contains(own) && own % 4 == 0));
            offsets.extend(extended.iter().map(|own| own.2));
            prop_assert!(extended.iter().all(|own| (0x100..0x1000).contains(&own.2) && own.2 % 4 == 0));
            let all = offsets.len();
            offsets.sort_unstable();
            offsets.dedup();
            prop_assert_eq!(offsets.len(), all);
        }
    }
}
