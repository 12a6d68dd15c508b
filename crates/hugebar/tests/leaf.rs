//! Compares the kernel's rule with a model that handles one fault at a time, as the kernel does.

use hugebar::leaf::{GIB, KIB, LeafSizes, Leaves, MIB, leaves, runs};
use proptest::prelude::*;

/// Populates a mapping as `vfio_pci_mmap_huge_fault` does: for each page that is not mapped yet, in
/// the given order, the largest leaf that lies whole in the VMA with an aligned physical address.
struct Kernel {
    start: u64,
    end: u64,
    hpa: u64,
    mapped: Vec<bool>,
    leaves: Leaves,
}

impl Kernel {
    fn new(hva: u64, hpa: u64, len: u64, sizes: &LeafSizes) -> Self {
        let page = sizes.base();
        let start = hva / page * page;
        let end = (hva + len).next_multiple_of(page);
        let pages = usize::try_from((end - start) / page).unwrap();
        Self {
            start,
            end,
            hpa: hpa.wrapping_sub(hva - start),
            mapped: vec![false; pages],
            leaves: Leaves::none(sizes),
        }
    }

    fn touch(&mut self, page: usize) {
        let sizes = *self.leaves.sizes();
        if self.mapped[page] {
            return;
        }
        let fault = self.start + page as u64 * sizes.base();
        for &size in sizes.as_slice().iter().rev() {
            let addr = fault / size * size;
            let fits = addr >= self.start && addr + size <= self.end;
            let phys = self.hpa.wrapping_add(addr.wrapping_sub(self.start));
            if size == sizes.base() || (fits && phys % size == 0) {
                let first = usize::try_from((addr - self.start) / sizes.base()).unwrap();
                let count = usize::try_from(size / sizes.base()).unwrap();
                for page in &mut self.mapped[first..first + count] {
                    assert!(!*page, "leaves never overlap");
                    *page = true;
                }
                self.leaves.add(size, 1);
                return;
            }
        }
    }
}

/// Sizes with small ratios, so that a model of single faults stays small.
fn small_sizes() -> impl Strategy<Value = LeafSizes> {
    (0_u32..3, 1_u32..4, 1_u32..4, 1_usize..=3).prop_map(|(base, first, second, len)| {
        let base = 12 + base;
        let all = [1 << base, 1 << (base + first), 1 << (base + first + second)];
        LeafSizes::new(&all[..len]).unwrap()
    })
}

fn real_sizes() -> impl Strategy<Value = LeafSizes> {
    prop::sample::select(vec![
        LeafSizes::X86_64,
        LeafSizes::ARM64_4K,
        LeafSizes::ARM64_16K,
        LeafSizes::ARM64_64K,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn agrees_with_the_kernel_in_any_order_of_faults(
        sizes in small_sizes(),
        hva in 0_u64..200,
        hpa in 0_u64..200,
        pages in 1_u64..600,
        order in any::<u64>(),
        misfit in 0_u64..4096,
    ) {
        let page = sizes.base();
        let len = pages * page - misfit % page;
        let (hva, hpa) = (hva * page, hpa * page);
        let mut kernel = Kernel::new(hva, hpa, len, &sizes);
        // A permutation of the pages: steps that are coprime to their number.
        let count = kernel.mapped.len() as u64;
        let step = (order % count..).find(|&step| gcd(step.max(1), count) == 1).unwrap().max(1);
        for index in 0..count {
            kernel.touch(usize::try_from(index * step % count).unwrap());
        }
        prop_assert!(kernel.mapped.iter().all(|&page| page));
        prop_assert_eq!(leaves(hva, hpa, len, &sizes), kernel.leaves);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn agrees_with_the_kernel_at_real_sizes(
        sizes in real_sizes(),
        hva in 0_u64..1 << 20,
        shift in prop::sample::select(vec![0_u64, 1, 512, 513, 262_144]),
        pages in 1_u64..600_000,
    ) {
        let page = sizes.base();
        let (hva, len) = (hva * page, pages * page);
        let hpa = hva + shift * page;
        let mut kernel = Kernel::new(hva, hpa, len, &sizes);
        for page in 0..kernel.mapped.len() {
            kernel.touch(page);
        }
        prop_assert_eq!(leaves(hva, hpa, len, &sizes), kernel.leaves);
    }

    #[test]
    fn runs_follow_one_another_and_cover_everything(
        sizes in real_sizes(), hva: u64, hpa: u64, len: u64,
    ) {
        let page = u128::from(sizes.base());
        let mut next = u128::from(hva) / page * page;
        for run in runs(hva, hpa, len, &sizes) {
            prop_assert_eq!(u128::from(run.start), next & u128::from(u64::MAX));
            prop_assert!(run.count > 0 && run.start % run.size == 0);
            next += run.bytes();
        }
        let end = (u128::from(hva) + u128::from(len)).next_multiple_of(page);
        prop_assert!(len == 0 || next == end);
        prop_assert_eq!(leaves(hva, hpa, len, &sizes).total() == 0, len == 0);
    }

    #[test]
    fn only_the_difference_of_the_addresses_counts(
        sizes in real_sizes(), blocks in 0_u64..100, pages in 1_u64..1 << 22, shift in 0_u64..1 << 19,
    ) {
        let len = pages * sizes.base();
        let (hva, hpa) = (blocks * sizes.largest(), shift * sizes.base());
        let here = leaves(hva, hpa, len, &sizes);
        prop_assert_eq!(here, leaves(hva + sizes.largest(), hpa, len, &sizes));
        prop_assert_eq!(here.bytes(), u128::from(len));
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[test]
fn tables_of_tiny_pages_have_no_further_level() {
    for page in [1, 2, 4, 8] {
        assert_eq!(LeafSizes::new(&[page]).unwrap().missing(), None, "{page}");
    }
    let next = LeafSizes::new(&[16]).unwrap().missing().unwrap();
    assert_eq!(next.as_slice(), [16, 32]);
    let top = LeafSizes::new(&[4096, 1 << 60]).unwrap();
    assert_eq!(top.missing(), None, "beyond 64 bits");
}

#[test]
fn the_top_of_the_address_space_does_not_overflow() {
    let sizes = LeafSizes::X86_64;
    let top = leaves(u64::MAX - GIB + 1, 0, GIB, &sizes);
    assert_eq!((top.count(GIB), top.total()), (1, 1));
    assert_eq!(leaves(0, 0, u64::MAX, &sizes).count(GIB), 1 << 34);
}

#[test]
fn counts_show_largest_first() {
    let sizes = LeafSizes::X86_64;
    assert_eq!(leaves(0, 0, 0, &sizes).to_string(), "none");
    let odd = leaves(0, 0, 3 * GIB + 2 * MIB + 8 * KIB, &sizes);
    assert_eq!(odd.to_string(), "3 × 1 GiB + 1 × 2 MiB + 2 × 4 KiB");
    let json = serde_json::to_string(&odd).unwrap();
    assert_eq!(json, r#"{"4096":2,"2097152":1,"1073741824":3}"#);
}
