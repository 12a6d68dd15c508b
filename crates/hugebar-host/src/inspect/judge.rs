//! What the size of a process's page tables tells about all its device mappings together.

use hugebar::leaf::Bytes;
use hugebar::reason::{Code, Reason};

use super::assess::Assessed;
use super::mapping::Judgement;
use super::tables::Observed;

/// Judges all device mappings of a process by its page tables. `page` is the base page size.
pub(crate) fn judge(all: &mut [Assessed], tables: &Observed, page: u64) {
    for own in all.iter_mut() {
        own.mapping.not_in_base_pages = tables.fall_short_of(own.filled);
    }
    let devices = all.iter().map(|own| own.needed);
    let devices = devices.fold(0, u64::saturating_add);
    if !tables.exceed(page, devices) {
        return;
    }
    // Only a mapping with possible larger leaves can have more tables than those need.
    let suspect = |own: &&mut Assessed| own.needed < own.filled;
    let suspects = all.iter_mut().filter(suspect);
    let mut suspects: Vec<_> = suspects.map(|own| &mut own.mapping).collect();
    let count = suspects.len();
    for mapping in &mut suspects {
        let (which, whose) = match count {
            1 => ("this mapping".to_owned(), "it is"),
            _ => (format!("all {count} such device mappings"), "some are"),
        };
        let fact = format!(
            "this process has {} of page tables, but would need at most {} if {which} had the possible leaves, so \
             {whose} populated in smaller ones",
            Bytes(tables.least()),
            Bytes(tables.bound(page, devices)),
        );
        let remedy = "change the program to unmap it and map it again: the kernel does not replace base pages by larger leaves. \
                      The cause is the THP policy at that time, PR_SET_THP_DISABLE or MADV_NOHUGEPAGE (--smaps shows that one)";
        mapping.optimal = false;
        mapping.judgement = Judgement::Contradicted;
        mapping
            .reasons
            .push(Reason::new(Code::PageTables, fact, remedy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;

    use hugebar::facts::Status;
    use hugebar::leaf::{self, GIB, KIB, LeafSizes};
    use hugebar::verdict::Requirement;

    use crate::inspect::mapping::Mapping;
    use crate::inspect::tables;

    const PAGE: u64 = 4 * KIB;
    const SIZES: LeafSizes = LeafSizes::X86_64;

    /// A mapping of a BAR at a good address. It can have the largest leaves or, if nothing follows from its driver,
    /// counts as base pages.
    fn assessed(address: u64, size: u64, follows_the_rule: bool) -> Assessed {
        let best = leaf::leaves(address, address, size, &SIZES);
        let (small, filled) = (
            size < GIB,
            tables::needed(address, 0, size, &SIZES.only_base()),
        );
        let mapping = Mapping {
            address,
            size,
            devices: vec!["0000:01:00.0".to_owned()],
            driver: Some("vfio-pci".to_owned()),
            region: Some(2),
            offset: Some(0),
            physical: Some(0),
            congruent: GIB,
            best,
            possible: best,
            largest: if small { PAGE } else { GIB },
            optimal: follows_the_rule,
            judgement: match follows_the_rule {
                true => Judgement::Optimal,
                false => Judgement::NotCounted,
            },
            not_in_base_pages: false,
            follows_the_rule,
            advice: None,
            reasons: Vec::new(),
        };
        let needed = match follows_the_rule {
            true => tables::needed(address, 0, size, &SIZES),
            false => filled,
        };
        Assessed {
            mapping,
            needed,
            filled,
        }
    }

    const ONE: u64 = 0x7f00_0000_0000;
    const OTHER: u64 = 0x7f80_0000_0000;
    const SMALL: u64 = 0x7fc0_0000_0000;

    /// 4 GiB with known leaves, 4 GiB with unknown ones, and a page.
    fn all(known: &[u64], unknown: &[u64]) -> Vec<Assessed> {
        let known = known.iter().map(|own| assessed(*own, 4 * GIB, true));
        let unknown = unknown.iter().map(|own| assessed(*own, 4 * GIB, false));
        let small = assessed(SMALL, PAGE, true);
        known.chain(unknown).chain([small]).collect()
    }

    /// Judged with `count` tables, where other mappings can need 100.
    fn judged(mut all: Vec<Assessed>, count: u64) -> Vec<Mapping> {
        judge(&mut all, &Observed::test(count * PAGE, 100 * PAGE), PAGE);
        all.into_iter().map(|own| own.mapping).collect()
    }

    #[test]
    fn tables_of_base_pages_contradict() {
        // 100 others, 3 for an LDT, 1 and 3 for the mappings of devices.
        let fine = judged(all(&[ONE], &[]), 107);
        assert!(fine.iter().all(|own| own.optimal && own.reasons.is_empty()));
        assert!(
            fine.iter()
                .all(|own| own.not_in_base_pages == (own.size > PAGE))
        );

        let [large, small] = &judged(all(&[ONE], &[]), 108)[..] else {
            panic!();
        };
        assert_eq!(large.judgement, Judgement::Contradicted);
        assert!(!large.optimal && !large.meets(Requirement::Optimal));
        assert!(!large.meets(Requirement::Size(GIB)) && large.meets(Requirement::Size(PAGE)));
        let [reason] = &large.reasons[..] else {
            panic!("{:?}", large.reasons);
        };
        assert_eq!(reason.code, Code::PageTables);
        assert!(
            reason.fact.contains("has 432 KiB of page tables"),
            "{reason}"
        );
        assert!(
            reason
                .fact
                .contains("would need at most 428 KiB if this mapping had"),
            "{reason}"
        );
        // A single page has no larger leaf to lose.
        assert!(small.optimal && small.meets(Requirement::Optimal) && small.reasons.is_empty());
        // Enough tables for base pages throughout prove nothing.
        assert!(!judged(all(&[ONE], &[]), 2203)[0].not_in_base_pages);
    }

    #[test]
    fn several_mappings_are_judged_together() {
        let both = judged(all(&[ONE, OTHER], &[]), 108);
        assert!(both.iter().all(|own| own.optimal), "{both:?}");
        let both = judged(all(&[ONE, OTHER], &[]), 109);
        for own in &both[..2] {
            assert_eq!(own.judgement, Judgement::Contradicted);
            assert!(
                own.reasons[0].fact.contains("all 2 such device mappings"),
                "{own:?}"
            );
        }
    }

    /// Its leaves are unknown, so the tables may be its own.
    #[test]
    fn what_may_be_in_base_pages_makes_no_other_look_wrong() {
        let both = judged(all(&[ONE], &[OTHER]), 2160);
        assert_eq!(both[0].judgement, Judgement::Optimal);
        assert_eq!(both[1].judgement, Judgement::NotCounted);
        assert!(both.iter().all(|own| own.reasons.is_empty()));
        let both = judged(all(&[ONE], &[OTHER]), 2161);
        assert_eq!(both[0].judgement, Judgement::Contradicted);
        assert_eq!(both[1].judgement, Judgement::NotCounted);
    }

    /// The mappings of a program with a 1 GiB BAR (`=`) in one leaf, as shown by Linux 7.3.4. `VmPTE` was 52 kB.
    const IN_LARGE_LEAVES: &str = "\
5564a840b000-5564a8586000 5564a8586000-5564a897a000 5564a897a000-5564a89ad000
5564a89ad000-5564a89af000 5564bd88f000-5564bd8b0000 7ff840000000-7ff880000000=
7ff88c78b000-7ff88c78c000 7ff88c78c000-7ff88c78d000 7ff88c78d000-7ff88c78f000
7ff88c78f000-7ff88c791000 7ff88c791000-7ff88c7b7000 7ff88c7b7000-7ff88c90d000
7ff88c90d000-7ff88c960000 7ff88c960000-7ff88c964000 7ff88c964000-7ff88c966000
7ff88c966000-7ff88c973000 7ff88c973000-7ff88c983000 7ff88c983000-7ff88c9f7000
7ff88c9f7000-7ff88ca51000 7ff88ca51000-7ff88ca52000 7ff88ca52000-7ff88ca53000
7ff88ca53000-7ff88ca56000 7ff88ca56000-7ff88ca6d000 7ff88ca6d000-7ff88ca71000
7ff88ca71000-7ff88ca72000 7ff88ca72000-7ff88ca73000 7ff88ca73000-7ff88ca75000
7ff88ca75000-7ff88ca79000 7ff88ca79000-7ff88ca7b000 7ff88ca7b000-7ff88ca7d000
7ff88ca7d000-7ff88ca7e000 7ff88ca7e000-7ff88caa4000 7ff88caa4000-7ff88caae000
7ff88caae000-7ff88cab0000 7ff88cab0000-7ff88cab2000 7ffd4f487000-7ffd4f4aa000";

    /// The same in base pages, by `MADV_NOHUGEPAGE`. `VmPTE` was 2104 kB.
    const IN_BASE_PAGES: &str = "\
55b6c894d000-55b6c8ac8000 55b6c8ac8000-55b6c8ebc000 55b6c8ebc000-55b6c8eef000
55b6c8eef000-55b6c8ef1000 55b6d4f49000-55b6d4f6a000 7f9280000000-7f92c0000000=
7f92f7c2b000-7f92f7c2c000 7f92f7c2c000-7f92f7c2d000 7f92f7c2d000-7f92f7c2f000
7f92f7c2f000-7f92f7c31000 7f92f7c31000-7f92f7c57000 7f92f7c57000-7f92f7dad000
7f92f7dad000-7f92f7e00000 7f92f7e00000-7f92f7e04000 7f92f7e04000-7f92f7e06000
7f92f7e06000-7f92f7e13000 7f92f7e13000-7f92f7e23000 7f92f7e23000-7f92f7e97000
7f92f7e97000-7f92f7ef1000 7f92f7ef1000-7f92f7ef2000 7f92f7ef2000-7f92f7ef3000
7f92f7ef3000-7f92f7ef6000 7f92f7ef6000-7f92f7f0d000 7f92f7f0d000-7f92f7f11000
7f92f7f11000-7f92f7f12000 7f92f7f12000-7f92f7f13000 7f92f7f13000-7f92f7f15000
7f92f7f15000-7f92f7f19000 7f92f7f19000-7f92f7f1b000 7f92f7f1b000-7f92f7f1d000
7f92f7f1d000-7f92f7f1e000 7f92f7f1e000-7f92f7f44000 7f92f7f44000-7f92f7f4e000
7f92f7f4e000-7f92f7f50000 7f92f7f50000-7f92f7f52000 7ffe9f7cd000-7ffe9f7f0000";

    /// Judged by recorded `maps` and `status`.
    fn recorded(maps: &str, vm_pte: &str) -> Mapping {
        let status =
            format!("Name:\thugebar\nVmSize:\t 1057852 kB\nVmPTE:\t{vm_pte}\nThreads:\t1\n");
        let hex = |text| u64::from_str_radix(text, 16).unwrap();
        let read = |others: &mut tables::Footprint| {
            let mut device = 0..0;
            for mapped in maps.split_whitespace() {
                let (start, end) = mapped.trim_end_matches('=').split_once('-').unwrap();
                match mapped.ends_with('=') {
                    true => device = hex(start)..hex(end),
                    false => others.add(hex(start)..hex(end)),
                }
            }
            Ok(device)
        };
        let status = || Ok(Status::parse(status.as_bytes()));
        let length = |device: &Range<u64>| device.end - device.start;
        let (device, _, observed) = tables::observe(PAGE, status, read, length).unwrap();
        let mut all = [assessed(device.start, length(&device), true)];
        judge(&mut all, &observed.unwrap(), PAGE);
        let [own] = all;
        own.mapping
    }

    #[test]
    fn what_a_kernel_showed_is_told_apart() {
        let large = recorded(IN_LARGE_LEAVES, "      52 kB");
        assert_eq!(large.judgement, Judgement::Optimal);
        assert!(large.not_in_base_pages && large.reasons.is_empty());
        let pages = recorded(IN_BASE_PAGES, "    2104 kB");
        assert_eq!(pages.judgement, Judgement::Contradicted);
        assert!(!pages.not_in_base_pages);
        // Tables for as little as 16 MiB are noticed.
        assert!(recorded(IN_BASE_PAGES, "84 kB").judgement == Judgement::Contradicted);
        assert!(recorded(IN_BASE_PAGES, "52 kB").judgement == Judgement::Optimal);
    }
}
