//! No number makes a public function of the pure modules panic or wrap: tests all of them, over all
//! 64 bits. Overflow checks are on, as in every build with debug assertions.

use hugebar::guest::{Fit, Slot, Table};
use hugebar::layout::{Area, Layout};
use hugebar::leaf::{Bytes, LeafSizes, Leaves, Run, leaves, runs};
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan};
use hugebar::verdict::{Verdict, reaches};
use proptest::prelude::*;

/// All numbers, especially those near the ends and near powers of two.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0_u64..4).prop_map(|less| u64::MAX - less),
        0_u64..4,
        (0_u32..64, -1_i64..=1).prop_map(|(bit, off)| (1_u64 << bit).wrapping_add_signed(off)),
    ]
}

/// Every possible set of sizes.
fn sizes() -> impl Strategy<Value = LeafSizes> {
    prop::collection::btree_set(0_u32..64, 1..=LeafSizes::MAX).prop_map(|bits| {
        let sizes: Vec<_> = bits.into_iter().map(|bit| 1_u64 << bit).collect();
        LeafSizes::new(&sizes).unwrap()
    })
}

fn area() -> impl Strategy<Value = Area> {
    (number(), number()).prop_map(|(offset, size)| Area::new(offset, size))
}

fn phys() -> impl Strategy<Value = Phys> {
    prop_oneof![
        Just(Phys::Natural),
        Just(Phys::Unknown),
        number().prop_map(Phys::At)
    ]
}

fn some_leaves() -> impl Strategy<Value = Leaves> {
    let counts = prop::collection::vec((number(), number()), 0..4);
    (sizes(), counts).prop_map(|(sizes, counts)| {
        let mut leaves = Leaves::none(&sizes);
        for (index, count) in counts {
            let list = sizes.as_slice();
            let size = list[usize::try_from(index % list.len() as u64).unwrap()];
            leaves.add(size, count);
        }
        leaves
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn sets_of_sizes(list in prop::collection::vec(number(), 0..5), sizes in sizes(), size in number()) {
        if let Some(made) = LeafSizes::new(&list) {
            prop_assert_eq!(made.as_slice(), list);
        }
        prop_assert!(sizes.base() <= sizes.largest());
        let page = sizes.only_base();
        prop_assert_eq!(page.as_slice(), [sizes.base()]);
        if let Some(more) = sizes.missing() {
            prop_assert!(more.largest() > sizes.largest() && more.largest().is_power_of_two());
        }
        if let Some(below) = sizes.below(size) {
            prop_assert!(below.largest() < size);
        }
        let _ = format!("{sizes:?} {}", Bytes(size));
    }

    /// No byte is lost, wherever the range lies.
    #[test]
    fn leaves_of_any_range(hva in number(), hpa in number(), len in number(), sizes in sizes()) {
        let page = u128::from(sizes.base());
        let start = u128::from(hva) / page * page;
        let end = (u128::from(hva) + u128::from(len)).next_multiple_of(page);
        let bytes = if len == 0 { 0 } else { end - start };
        let counted = leaves(hva, hpa, len, &sizes);
        prop_assert_eq!(counted.bytes(), bytes);
        let list: Vec<Run> = runs(hva, hpa, len, &sizes).collect();
        prop_assert_eq!(list.iter().map(Run::bytes).sum::<u128>(), bytes);
        let total: u128 = list.iter().map(|run| u128::from(run.count)).sum();
        prop_assert_eq!(counted.total(), u64::try_from(total).unwrap_or(u64::MAX));
        let _ = (counted.to_string(), format!("{counted:?}"));
    }

    #[test]
    fn runs_of_any_numbers(start in number(), size in number(), count in number()) {
        prop_assert_eq!(Run { start, size, count }.bytes(), u128::from(size) * u128::from(count));
    }

    /// Sums are never less than their parts, and report if they are inexact.
    #[test]
    fn counts_of_any_numbers(one in some_leaves(), other in some_leaves(), size in number(), count in number()) {
        let mut sum = one;
        sum.add(size, count);
        sum.add_all(&other);
        prop_assert!(sum.total() >= one.total());
        prop_assert!(sum.bytes() >= sum.bytes_at_least(size));
        prop_assert!(sum.count(size) >= one.count(size));
        if sum.is_exact() {
            let known = |size: u64| sum.sizes().as_slice().contains(&size);
            let added = if known(size) { count } else { 0 };
            let rest: u64 = other.iter().filter(|(size, _)| known(*size)).map(|(_, count)| count).sum();
            prop_assert_eq!(sum.total(), one.total() + added + rest);
        }
        for _ in 0..70 {
            let twice = sum;
            sum.add_all(&twice);
        }
        prop_assert_eq!(sum.is_exact(), sum.total() == 0);
        let _ = (sum.to_string(), serde_json::to_string(&sum).unwrap());
    }

    /// More leaves never get a better verdict, and inexact counts never a good one.
    #[test]
    fn verdicts_of_any_numbers(best in some_leaves(), expected in some_leaves(), measured in some_leaves(), size in number()) {
        let verdict = Verdict::of(&best, &expected, Some(&measured));
        if verdict == Verdict::Optimal {
            prop_assert!(measured.is_exact() && measured.total() <= best.total());
        }
        if !measured.is_exact() {
            prop_assert_eq!(verdict, Verdict::Degraded);
            prop_assert!(!reaches(&best, &measured, size));
        }
        let _ = reaches(&best, &measured, size);
    }

    #[test]
    fn layouts_of_any_numbers(
        size in number(), page in number(), areas in prop::collection::vec(area(), 0..5), hole in area(),
    ) {
        let layout = Layout::with_areas(size, page, areas);
        let whole = Layout::whole(size, page);
        prop_assert_eq!(layout.is_ok(), whole.is_ok());
        let (Ok(layout), Ok(whole)) = (layout, whole) else { return Ok(()) };
        prop_assert!(whole.mappable() == whole.span() && layout.mappable() <= whole.span());
        let _ = (hole.to_string(), hole.end());
        match layout.without(hole) {
            Ok(less) => prop_assert!(less.mappable() <= layout.mappable()),
            Err(error) => { let _ = error.to_string(); }
        }
    }

    #[test]
    fn plans_of_any_numbers(
        size in number(),
        areas in prop::collection::vec(area(), 0..5),
        phys in phys(),
        sizes in sizes(),
        placement in prop::sample::select(vec![Placement::Congruent, Placement::SizeAligned, Placement::Plain]),
        address in number(),
    ) {
        let Ok(layout) = Layout::with_areas(size, sizes.base(), areas) else { return Ok(()) };
        let mut next = Plan::new(&layout, phys, &sizes, placement).ok();
        while let Some(plan) = next {
            prop_assert_eq!(plan.best().bytes(), u128::from(layout.mappable()), "no byte is lost");
            for shape in plan.shapes() {
                prop_assert!(shape.alignment().is_power_of_two() && shape.residue() < shape.alignment());
                prop_assert!(shape.reservation().is_none_or(|bytes| bytes >= shape.length()));
                if let Some(start) = shape.start_from(address) {
                    prop_assert!(start >= address && start - address < shape.alignment());
                }
                prop_assert!(plan.layout().areas().get(shape.areas()).is_some());
                let _ = phys.behind(shape.origin());
            }
            next = plan.relaxed();
        }
    }

    #[test]
    fn guest_addresses_of_any_numbers(
        slots in prop::collection::vec((area(), number()), 0..4),
        phys in phys(),
        sizes in sizes(),
        table in prop::sample::select(vec![Table::SecondStage, Table::Iommu]),
        address in number(),
    ) {
        let slots: Vec<_> = slots.into_iter().map(|(area, address)| Slot { area, address }).collect();
        let fit = Fit::new(&slots, phys, &sizes);
        let _ = fit.leaves(table, address);
        let wanted = fit.wanted(table);
        prop_assert!(wanted.alignment().is_power_of_two() && wanted.residue() < wanted.alignment());
        if let Some(below) = wanted.below(address) {
            prop_assert!(below <= address && below % wanted.alignment() == wanted.residue());
            prop_assert_eq!(fit.leaves(table, below).total(), fit.best(table).total());
        }
        if let Some(above) = wanted.above(address) {
            prop_assert!(above >= address && above % wanted.alignment() == wanted.residue());
        }
        if let Some(better) = fit.better(table, address) {
            prop_assert!(better.below.is_none_or(|below| below < address));
            prop_assert!(better.above.is_none_or(|above| above > address));
        }
    }
}

#[test]
fn too_many_leaves_are_not_optimal() {
    let sizes = LeafSizes::X86_64;
    let best = leaves(0, 0, sizes.largest(), &sizes);
    // These wrap to one leaf in 64 bits.
    let mut many = Leaves::none(&sizes);
    many.add(sizes.base(), u64::MAX);
    many.add(sizes.largest(), 2);
    assert_eq!(many.total(), u64::MAX);
    assert!(!many.is_exact());
    assert_eq!(Verdict::of(&best, &best, Some(&many)), Verdict::Degraded);
    // The same twice: both saturate.
    let mut more = many;
    more.add(sizes.base(), 5);
    assert_eq!(Verdict::of(&many, &many, Some(&more)), Verdict::Degraded);
    assert!(!reaches(&many, &more, sizes.base()));
}

/// A plan for a region at the top of physical addresses counts all of its leaves.
#[test]
fn leaves_at_the_top_of_physical_addresses_are_counted() {
    let sizes = LeafSizes::X86_64;
    let top = u64::MAX - 0xfff;
    let plan = Plan::new(
        &Layout::whole(1 << 30, 4096).unwrap(),
        Phys::At(top),
        &sizes,
        Placement::Congruent,
    )
    .unwrap();
    assert_eq!(plan.best().to_string(), "511 × 2 MiB + 512 × 4 KiB");
    assert_eq!(plan.shapes()[0].alignment(), 2 << 20);
}
