//! Where a mapping of a region should lie.

#![allow(unsafe_code, reason = "the border to preloaded programs")]

use crate::leaf::{LeafSizes, Leaves, leaves};

/// VFIO puts the number of a region into the bits of an offset from here on (`VFIO_PCI_OFFSET_SHIFT`).
const REGION: u32 = 40;

/// The binary logarithm of the most leaves that attempts lie apart: 4 TiB of leaves of 1 GiB.
const MOST_APART: u32 = 12;

/// A part of a region of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// The region's number.
    pub(crate) region: u64,
    /// Offset in the region, which is congruent with the physical address: BARs are aligned to their size.
    pub(crate) offset: u64,
    /// Length in bytes.
    pub(crate) length: u64,
}

impl Part {
    pub(crate) fn of(offset: i64, length: usize) -> Self {
        let offset = offset as u64;
        Self {
            region: offset >> REGION,
            offset: offset & ((1 << REGION) - 1),
            length: length as u64,
        }
    }

    /// The leaves that the part can have at this address.
    pub(crate) fn leaves(&self, address: u64, sizes: &LeafSizes) -> Leaves {
        leaves(address, self.offset, self.length, sizes)
    }

    /// The largest leaf that fits, which the address has to be congruent to; `None` if that is the base page.
    pub(crate) fn alignment(&self, sizes: &LeafSizes) -> Option<u64> {
        let best = self.leaves(self.offset, sizes);
        let fits = best.iter().rev().find(|&(_, count)| count > 0);
        fits.map(|(size, _)| size)
            .filter(|&size| size > sizes.base())
    }

    /// The lowest address from `low` on that is congruent with the part modulo a power of two.
    pub(crate) fn address_from(&self, low: usize, alignment: u64) -> usize {
        let ahead = self.offset.wrapping_sub(low as u64) & alignment.wrapping_sub(1);
        low.wrapping_add(ahead as usize)
    }
}

/// The next smaller leaf above the base page.
pub(crate) fn smaller(alignment: u64, sizes: &LeafSizes) -> Option<u64> {
    let mut all = sizes.as_slice().iter().rev().copied();
    all.find(|&size| size < alignment && size > sizes.base())
}

/// How many leaves further down a thread looks after this many attempts: none at first, then a number below a bound that
/// doubles, which depends on the thread's stack.
pub(crate) fn apart(attempts: u32) -> usize {
    let here = &raw const attempts as usize;
    // Fibonacci hashing (the golden ratio of 2^64): its upper bits depend on all bits of the number.
    let number = (here as u64 ^ u64::from(attempts)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let bound = 1_u64 << attempts.min(MOST_APART);
    (number % bound) as usize
}

/// The leaf sizes of this machine.
#[cfg(target_arch = "x86_64")]
#[allow(unused_unsafe, reason = "safe since Rust 1.92")]
pub(crate) fn leaf_sizes() -> LeafSizes {
    // SAFETY: every x86-64 CPU has CPUID and its extended leaves.
    let features = unsafe { core::arch::x86_64::__cpuid(0x8000_0001) };
    // `pdpe1gb`. Without it there are the sizes that arm64 has.
    if features.edx & (1 << 26) != 0 {
        LeafSizes::X86_64
    } else {
        LeafSizes::ARM64_4K
    }
}

/// The leaf sizes of this machine.
#[cfg(target_arch = "aarch64")]
pub(crate) fn leaf_sizes() -> LeafSizes {
    // SAFETY: libc reads a number that the kernel has given to the process.
    match unsafe { libc::getauxval(libc::AT_PAGESZ) } {
        0x4000 => LeafSizes::ARM64_16K,
        0x10000 => LeafSizes::ARM64_64K,
        _ => LeafSizes::ARM64_4K,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hugebar::layout::Layout;
    use hugebar::phys::Phys;
    use hugebar::plan::{Placement, Plan};
    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = 4096;

    /// The alignment and residue that the library's own plan has.
    fn planned(part: &Part) -> (u64, u64) {
        let layout = Layout::whole(part.length, PAGE).unwrap();
        let phys = Phys::At(part.offset);
        let sizes = hugebar::leaf::LeafSizes::X86_64;
        let plan = Plan::new(&layout, phys, &sizes, Placement::Congruent).unwrap();
        let shape = &plan.shapes()[0];
        (shape.alignment(), shape.residue())
    }

    #[test]
    fn offsets_have_the_region_in_their_upper_bits() {
        let part = Part::of((2 << 40) + 0x7000, 4 << 30);
        assert_eq!(
            (part.region, part.offset, part.length),
            (2, 0x7000, 4 << 30)
        );
        assert_eq!(part.alignment(&LeafSizes::X86_64), Some(1 << 30));
        let address = part.address_from(0x7f12_3456_7000, 1 << 30);
        assert_eq!(address, 0x7f12_4000_7000);
        assert_eq!(part.address_from(address, 1 << 30), address);
    }

    #[test]
    fn attempts_of_threads_lie_apart() {
        assert_eq!(apart(0), 0);
        for attempts in 1..64 {
            assert!(apart(attempts) < 1 << attempts.min(12));
        }
        let together = std::sync::Barrier::new(8);
        let of_threads: BTreeSet<_> = std::thread::scope(|scope| {
            let wait = || {
                together.wait();
                apart(12)
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(wait)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(of_threads.len() > 4, "{of_threads:?}");
        let own: BTreeSet<_> = (1..64).map(apart).collect();
        assert!(own.len() > 32, "{own:?}");
    }

    proptest! {
        #[test]
        fn it_is_where_the_library_would_put_it(
            offset in 0..(4_u64 << 30) / PAGE,
            pages in 1..(4_u64 << 30) / PAGE,
            low in 0..(1_usize << 47) / 4096,
        ) {
            let part = Part::of((offset * PAGE) as i64 | 1 << 42, (pages * PAGE) as usize);
            let (alignment, residue) = planned(&part);
            prop_assert_eq!(part.alignment(&LeafSizes::X86_64).unwrap_or(PAGE), alignment);
            let low = low * 4096;
            let address = part.address_from(low, alignment);
            prop_assert_eq!(address as u64 % alignment, residue);
            prop_assert!(address >= low && address - low < alignment as usize);
        }
    }
}
