//! Allocates the I/O addresses of an address space.

use std::collections::BTreeMap;

use crate::leaf::GIB;

/// I/O addresses that the IOMMU can map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IovaRange {
    /// The first address.
    pub first: u64,
    /// The last address.
    pub last: u64,
}

/// Addresses are taken above this if the device can reach them; those below are left to 32-bit devices.
const LOW: u64 = 4 * GIB;

/// How much of the largest range is left for populating ([`crate::populate::Type1`]), which uses its top.
const SPARED: u64 = 8 * GIB;

/// The requirements of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Length in bytes, a multiple of the page.
    pub(crate) len: u64,
    /// The address must be congruent to this one ...
    pub(crate) congruent_with: u64,
    /// ... modulo this, a power of two of at least a page.
    pub(crate) modulus: u64,
    /// The last address that the device can reach.
    pub(crate) last: u64,
}

impl Wish {
    /// The lowest congruent address at or above `from`.
    fn first_from(&self, from: u64) -> Option<u64> {
        let mask = self.modulus.checked_sub(1)?;
        let ahead = self.congruent_with.wrapping_sub(from) & mask;
        from.checked_add(ahead)
    }
}

/// The addresses of an address space without our mappings.
#[derive(Debug)]
pub(crate) struct Iovas {
    /// First and last address of each gap; no two touch.
    free: BTreeMap<u64, u64>,
    /// First address and length of what is never used.
    kept: Vec<(u64, u64)>,
}

impl Default for Iovas {
    fn default() -> Self {
        Self {
            free: BTreeMap::from([(0, u64::MAX)]),
            kept: Vec::new(),
        }
    }
}

impl Iovas {
    /// Takes the lowest suitable addresses. `ranges` are those that the IOMMU can map; attaching devices can shrink them.
    pub(crate) fn take(&mut self, ranges: &[IovaRange], wish: &Wish) -> Option<u64> {
        // Many devices do not accept the address 0.
        let above = (LOW, wish.last);
        let below = (wish.modulus.min(LOW), wish.last.min(LOW - 1));
        let length = |range: &IovaRange| range.last.saturating_sub(range.first);
        let largest = ranges.iter().map(length).max()?;
        for (first, last) in [above, below] {
            for range in ranges {
                let mut end = range.last;
                if length(range) == largest {
                    end -= SPARED.min(largest / 4);
                }
                let (first, last) = (first.max(range.first), last.min(end));
                if first > last {
                    continue;
                }
                if let Some(start) = self.take_in(first, last, wish) {
                    return Some(start);
                }
            }
        }
        None
    }

    fn take_in(&mut self, first: u64, last: u64, wish: &Wish) -> Option<u64> {
        let before = self.free.range(..=first).next_back();
        let from = before.map_or(first, |(start, _)| *start);
        let found = self.free.range(from..=last).find_map(|(&start, &end)| {
            let lowest = wish.first_from(start.max(first))?;
            let highest = lowest.checked_add(wish.len.checked_sub(1)?)?;
            (highest <= end.min(last)).then_some((start, end, lowest, highest))
        });
        let (start, end, lowest, highest) = found?;
        self.free.remove(&start);
        if start < lowest {
            self.free.insert(start, lowest - 1);
        }
        if highest < end {
            self.free.insert(highest + 1, end);
        }
        Some(lowest)
    }

    /// Never takes these addresses, nor those of it that are in use now once they are given back.
    pub(crate) fn keep_clear_of(&mut self, start: u64, len: u64) {
        self.withhold(start, len);
        if !self.kept.contains(&(start, len)) {
            self.kept.push((start, len));
        }
    }

    /// Takes addresses that turned out to be used by other code, as far as they are free here.
    pub(crate) fn withhold(&mut self, start: u64, len: u64) {
        let Some(more) = len.checked_sub(1) else {
            return;
        };
        let end = start.saturating_add(more);
        let before = self.free.range(..=start).next_back();
        let from = before.map_or(start, |(first, _)| *first);
        let touched: Vec<(u64, u64)> = self.free.range(from..=end).map(|(a, b)| (*a, *b)).collect();
        for (first, last) in touched {
            if last < start {
                continue;
            }
            self.free.remove(&first);
            if first < start {
                self.free.insert(first, start - 1);
            }
            if last > end {
                self.free.insert(end + 1, last);
            }
        }
    }

    /// Frees addresses that were taken.
    pub(crate) fn give_back(&mut self, start: u64, len: u64) {
        let Some(end) = len.checked_sub(1).and_then(|more| start.checked_add(more)) else {
            return;
        };
        let mut gap = (start, end);
        if let Some((&first, &last)) = self.free.range(..start).next_back() {
            if last.checked_add(1) == Some(start) {
                self.free.remove(&first);
                gap.0 = first;
            }
        }
        if let Some(behind) = end.checked_add(1) {
            if let Some(last) = self.free.remove(&behind) {
                gap.1 = last;
            }
        }
        self.free.insert(gap.0, gap.1);
        for (start, len) in self.kept.clone() {
            self.withhold(start, len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::{KIB, MIB};
    use proptest::prelude::*;

    const RANGES: [IovaRange; 2] = [
        IovaRange {
            first: 0,
            last: 0xfedf_ffff,
        },
        IovaRange {
            first: 0xfef0_0000,
            last: (1 << 39) - 1,
        },
    ];

    const PAGE: Wish = Wish {
        len: 4 * KIB,
        congruent_with: 0,
        modulus: 4 * KIB,
        last: u64::MAX,
    };

    #[test]
    fn low_addresses_are_left_to_devices_that_need_them() {
        let mut iovas = Iovas::default();
        assert_eq!(iovas.take(&RANGES, &PAGE), Some(4 * GIB));
        let narrow = Wish {
            last: (1 << 28) - 1,
            ..PAGE
        };
        assert_eq!(iovas.take(&RANGES, &narrow), Some(4 * KIB));
        assert_eq!(iovas.take(&RANGES, &narrow), Some(8 * KIB));
    }

    #[test]
    fn addresses_to_keep_clear_of_are_not_used_even_if_they_were() {
        let mut iovas = Iovas::default();
        assert_eq!(iovas.take(&RANGES, &PAGE), Some(4 * GIB));
        for _ in 0..2 {
            iovas.keep_clear_of(4 * GIB, 16 * KIB);
        }
        assert_eq!(iovas.kept.len(), 1);
        assert_eq!(iovas.take(&RANGES, &PAGE), Some(4 * GIB + 16 * KIB));
        iovas.give_back(4 * GIB, 4 * KIB);
        iovas.give_back(4 * GIB + 16 * KIB, 4 * KIB);
        assert_eq!(iovas.take(&RANGES, &PAGE), Some(4 * GIB + 16 * KIB));
    }

    #[test]
    fn addresses_are_congruent() {
        let mut iovas = Iovas::default();
        let wish = Wish {
            len: 2 * MIB,
            congruent_with: 0x7f12_3456_7000,
            modulus: 2 * MIB,
            ..PAGE
        };
        let first = iovas.take(&RANGES, &wish).unwrap();
        assert_eq!(first, 4 * GIB + 0x16_7000);
        assert_eq!(iovas.take(&RANGES, &wish), Some(first + 2 * MIB));
        // The addresses before them are used for smaller mappings.
        assert_eq!(iovas.take(&RANGES, &PAGE), Some(4 * GIB));
    }

    #[test]
    fn where_nothing_is_left_nothing_is_taken() {
        let tiny = [IovaRange {
            first: 0x1000,
            last: 0x4fff,
        }];
        let mut iovas = Iovas::default();
        // A quarter is left free.
        for expected in [Some(0x1000), Some(0x2000), Some(0x3000), None] {
            assert_eq!(iovas.take(&tiny, &PAGE), expected);
        }
        iovas.give_back(0x2000, 0x1000);
        assert_eq!(iovas.take(&tiny, &PAGE), Some(0x2000));
        assert_eq!(iovas.take(&[], &PAGE), None);
        let too_long = Wish {
            len: u64::MAX,
            ..PAGE
        };
        assert_eq!(Iovas::default().take(&RANGES, &too_long), None);
    }

    #[test]
    fn what_lies_between_ranges_is_not_taken() {
        let islands = [(8, 9), (12, 15)].map(|(first, end)| IovaRange {
            first: first * GIB,
            last: end * GIB - 1,
        });
        let mut iovas = Iovas::default();
        assert_eq!(iovas.take(&islands, &PAGE), Some(8 * GIB));
        let large = Wish {
            len: GIB,
            modulus: GIB,
            ..PAGE
        };
        // The rest of the first range is too small, and a quarter of the second is left free.
        assert_eq!(iovas.take(&islands, &large), Some(12 * GIB));
        assert_eq!(iovas.take(&islands, &large), Some(13 * GIB));
        assert_eq!(iovas.take(&islands, &large), None);
        assert_eq!(iovas.take(&islands, &PAGE), Some(8 * GIB + 4 * KIB));
    }

    #[test]
    fn what_somebody_else_has_is_left_to_them() {
        let mut iovas = Iovas::default();
        let first = iovas.take(&RANGES, &PAGE).unwrap();
        iovas.withhold(first + 4 * KIB, GIB);
        assert_eq!(iovas.take(&RANGES, &PAGE), Some(first + 4 * KIB + GIB));
        // Across gaps and taken addresses, and at both ends of the address space.
        iovas.give_back(first, 4 * KIB);
        iovas.withhold(0, 8 * GIB);
        assert_eq!(iovas.take(&RANGES, &PAGE), Some(8 * GIB));
        iovas.withhold(u64::MAX - 1, u64::MAX);
        iovas.withhold(0, 0);
        let free: Vec<_> = iovas.free.into_iter().collect();
        assert_eq!(free, [(8 * GIB + 4 * KIB, u64::MAX - 2)]);
    }

    proptest! {
        #[test]
        fn nothing_is_taken_twice_and_all_comes_back(
            wishes in proptest::collection::vec((1_u64..64, 0_u64..u64::MAX, 12_u32..31, 28_u32..64), 1..40),
            order in proptest::collection::vec(0_usize..40, 40),
        ) {
            let mut iovas = Iovas::default();
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (pages, congruent_with, power, bits) in wishes {
                let wish = Wish {
                    len: pages * 4 * KIB,
                    congruent_with: congruent_with & !0xfff,
                    modulus: 1 << power,
                    last: (1 << bits) - 1,
                };
                let Some(start) = iovas.take(&RANGES, &wish) else { continue };
                let end = start + wish.len - 1;
                prop_assert!(end <= wish.last);
                prop_assert!(RANGES.iter().any(|range| range.first <= start && end <= range.last));
                prop_assert_eq!(start % wish.modulus, wish.congruent_with % wish.modulus);
                for &(other, len) in &taken {
                    prop_assert!(end < other || start > other + len - 1);
                }
                taken.push((start, wish.len));
            }
            for at in order {
                if taken.is_empty() { break }
                let (start, len) = taken.swap_remove(at % taken.len());
                iovas.give_back(start, len);
            }
            for (start, len) in taken {
                iovas.give_back(start, len);
            }
            prop_assert_eq!(iovas.free, Iovas::default().free);
        }
    }
}
