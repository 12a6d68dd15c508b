//! The pages of IOMMUs.

use crate::leaf::{GIB, LeafSizes};

/// The page sizes of an IOMMU on a machine with these leaf sizes. With 4 KiB base pages they go up to 1 GiB, even if the CPU
/// has no such leaves; with arm64's larger base pages they are the CPU's (`arm_lpae_restrict_pgsizes`: 16 KiB and 32 MiB,
/// 64 KiB and 512 MiB).
pub(super) fn of_iommu(leaves: LeafSizes) -> LeafSizes {
    let next = leaves.missing().filter(|with| with.largest() <= GIB);
    next.unwrap_or(leaves)
}

/// The largest page that fits.
pub(super) fn largest(len: u64, pages: &LeafSizes) -> u64 {
    let mut sizes = pages.as_slice().iter().rev();
    let fitting = sizes.find(|&&size| size <= len);
    fitting.copied().unwrap_or(pages.base())
}

pub(super) fn smaller(size: u64, pages: &LeafSizes) -> Option<u64> {
    pages.below(size).map(|smaller| smaller.largest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::{KIB, MIB};

    #[test]
    fn pages_are_those_of_the_machine() {
        let x86 = LeafSizes::X86_64;
        for (own, sizes) in [
            (x86, &[4 * KIB, 2 * MIB, GIB][..]),
            (x86.below(GIB).unwrap(), &[4 * KIB, 2 * MIB, GIB]),
            (LeafSizes::ARM64_4K, &[4 * KIB, 2 * MIB, GIB]),
            (LeafSizes::ARM64_16K, &[16 * KIB, 32 * MIB]),
            (LeafSizes::ARM64_64K, &[64 * KIB, 512 * MIB]),
        ] {
            let pages = of_iommu(own);
            assert_eq!(pages.as_slice(), sizes);
            // From the largest that fits down to the smallest.
            let mut page = largest(768 * MIB, &pages);
            let mut tried = vec![page];
            while let Some(smaller) = smaller(page, &pages) {
                page = smaller;
                tried.push(page);
            }
            let mut fitting: Vec<_> = sizes.to_vec();
            fitting.retain(|&size| size <= 768 * MIB);
            fitting.reverse();
            assert_eq!(tried, fitting);
            assert_eq!(largest(1, &pages), sizes[0]);
            assert_eq!(largest(u64::MAX, &pages), *sizes.last().unwrap());
        }
    }
}
