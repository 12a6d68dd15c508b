//! Layouts and plans: the expected leaf counts, and that no other addresses do better.

use hugebar::layout::{Area, Layout, LayoutError};
use hugebar::leaf::{GIB, KIB, LeafSizes, Leaves, MIB, leaves};
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan, Shape};
use proptest::prelude::*;

const X86: LeafSizes = LeafSizes::X86_64;
/// Coherent memory of a GB200, not a power of two.
const GB200: u64 = 0x2F_00F0_0000;

fn whole(size: u64, sizes: &LeafSizes) -> Layout {
    Layout::whole(size, sizes.base()).unwrap()
}

fn plan(layout: &Layout, sizes: &LeafSizes, placement: Placement) -> Plan {
    Plan::new(layout, Phys::Natural, sizes, placement).unwrap()
}

/// The leaves of a plan whose windows start at the given addresses.
fn leaves_in(plan: &Plan, start: impl Fn(&Shape) -> u64) -> Leaves {
    let mut sum = Leaves::none(plan.sizes());
    for shape in plan.shapes() {
        for area in &plan.layout().areas()[shape.areas()] {
            let address = start(shape) + (area.offset - shape.origin());
            let hpa = plan.phys().behind(area.offset);
            sum.add_all(&leaves(address, hpa, area.size, plan.sizes()));
        }
    }
    sum
}

fn congruent(layout: &Layout, sizes: &LeafSizes) -> Leaves {
    let plan = plan(layout, sizes, Placement::Congruent);
    let found = leaves_in(&plan, |shape| shape.start_from(0x7f12_3456_7000).unwrap());
    assert_eq!(
        found,
        plan.best(),
        "the window's alignment suffices for the best"
    );
    found
}

/// Size-aligned areas at a base with exactly the alignment of the rule.
fn unlucky(layout: &Layout, sizes: &LeafSizes) -> Leaves {
    let plan = plan(layout, sizes, Placement::SizeAligned);
    leaves_in(&plan, |shape| shape.alignment() | 0x7f00_0000_0000)
}

/// The table "leaf counts to expect", row by row.
#[test]
fn leaf_counts_to_expect() {
    let big = whole(128 * GIB, &X86);
    assert_eq!(
        (unlucky(&big, &X86).total(), congruent(&big, &X86).total()),
        (128, 128)
    );

    let holed = whole(64 * GIB, &X86)
        .without(Area::new(24 * KIB, 4 * KIB))
        .unwrap();
    assert_eq!(unlucky(&holed, &X86).total(), 16_777_215);
    let best = congruent(&holed, &X86);
    assert_eq!(best.total(), 1_085);
    assert_eq!(best.to_string(), "63 × 1 GiB + 511 × 2 MiB + 511 × 4 KiB");

    let small = whole(16 * MIB, &X86)
        .without(Area::new(0xb9_0000, 4 * KIB))
        .unwrap();
    assert_eq!(
        (
            unlucky(&small, &X86).total(),
            congruent(&small, &X86).total()
        ),
        (4_095, 518)
    );

    let odd = |sizes: &LeafSizes| {
        let layout = whole(GB200, sizes);
        (
            unlucky(&layout, sizes).total(),
            congruent(&layout, sizes).total(),
        )
    };
    assert_eq!(odd(&X86), (49_286_912, 451));
    assert_eq!(odd(&LeafSizes::ARM64_4K), (49_286_912, 96_519));
    assert_eq!(odd(&LeafSizes::ARM64_64K), (3_080_432, 616));

    let late = Area::new(0x7000, 4 * GIB - 0x7000);
    let late = Layout::with_areas(4 * GIB, 4096, [late]).unwrap();
    assert_eq!(
        (unlucky(&late, &X86).total(), congruent(&late, &X86).total()),
        (1_048_569, 1_019)
    );

    let uneven = whole(3 * GIB + 0xF0F_0000, &X86);
    let best = congruent(&uneven, &X86);
    assert_eq!(best.total(), 363);
    assert_eq!(best.to_string(), "3 × 1 GiB + 120 × 2 MiB + 240 × 4 KiB");
    // The rule only requires 64 KiB: as good as congruent if the base happens to be a multiple of
    // 1 GiB, and only base pages if not.
    let size_aligned = plan(&uneven, &X86, Placement::SizeAligned);
    assert_eq!(size_aligned.shapes()[0].alignment(), 64 * KIB);
    assert_eq!(leaves_in(&size_aligned, |_| 5 * GIB).total(), 363);
    assert_eq!(unlucky(&uneven, &X86).total(), 848_112);
}

#[test]
fn the_shapes_of_the_three_placements() {
    let layout = whole(4 * GIB, &X86)
        .without(Area::new(0x6000, 0x1000))
        .unwrap();
    let shape = |shape: &Shape| {
        assert_eq!(shape.residue(), 0);
        (
            shape.length(),
            shape.alignment(),
            shape.origin(),
            shape.areas(),
        )
    };
    let shapes = |placement| {
        let plan = plan(&layout, &X86, placement);
        plan.shapes().iter().map(shape).collect::<Vec<_>>()
    };
    assert_eq!(shapes(Placement::Congruent), [(4 * GIB, GIB, 0, 0..2)]);
    let second = 4 * GIB - 0x7000;
    assert_eq!(
        shapes(Placement::SizeAligned),
        [(0x6000, 0x2000, 0, 0..1), (second, 0x1000, 0x7000, 1..2)]
    );
    assert_eq!(
        shapes(Placement::Plain),
        [(0x6000, 0x1000, 0, 0..1), (second, 0x1000, 0x7000, 1..2)]
    );
    let nothing = layout.without(Area::new(0, 4 * GIB)).unwrap();
    assert!(
        plan(&nothing, &X86, Placement::Congruent)
            .shapes()
            .is_empty()
    );
}

#[test]
fn a_window_is_aligned_to_no_more_than_what_fits() {
    for (size, alignment) in [
        (256 * MIB, 2 * MIB),
        (MIB, 4 * KIB),
        (4 * KIB, 4 * KIB),
        (GIB, GIB),
    ] {
        let plan = plan(&whole(size, &X86), &X86, Placement::Congruent);
        assert_eq!(plan.shapes()[0].alignment(), alignment, "{size:#x}");
    }
    // 2 MiB lie in the BAR, but no aligned 2 MiB of physical addresses do.
    let layout = whole(2 * MIB, &X86);
    let odd = Plan::new(&layout, Phys::At(MIB + 4096), &X86, Placement::Congruent).unwrap();
    assert_eq!(odd.shapes()[0].alignment(), 4 * KIB);
    let less = plan(&whole(4 * GIB, &X86), &X86, Placement::Congruent)
        .relaxed()
        .unwrap();
    assert_eq!(less.shapes()[0].alignment(), 2 * MIB);
    let least = less.relaxed().unwrap();
    assert_eq!(least.shapes()[0].alignment(), 4 * KIB);
    assert_eq!(least.relaxed(), None);
}

#[test]
fn a_region_that_is_not_naturally_aligned_gets_its_residue() {
    let layout = whole(4 * GIB, &X86);
    let phys = Phys::At(0x38_0000_0000 + 0x1230_0000);
    let plan = Plan::new(&layout, phys, &X86, Placement::Congruent).unwrap();
    assert_eq!(plan.shapes()[0].residue(), 0x1230_0000);
    assert_eq!(plan.best().count(GIB), 3);
    let found = leaves_in(&plan, |shape| shape.start_from(0x7f00_0000_0000).unwrap());
    assert_eq!(found, plan.best());
}

#[test]
fn wrong_input_is_refused() {
    assert_eq!(Layout::whole(4096, 1000), Err(LayoutError::PageSize(1000)));
    assert_eq!(
        Layout::whole(u64::MAX, 4096),
        Err(LayoutError::TooLarge(u64::MAX))
    );
    let layout = whole(MIB, &X86);
    let empty = Area::new(0x1000, 0);
    assert_eq!(layout.without(empty), Err(LayoutError::EmptyHole(empty)));
    for hole in [
        Area::new(MIB, 1),
        Area::new(0, MIB + 1),
        Area::new(u64::MAX, 2),
    ] {
        let outside = LayoutError::HoleOutside { hole, region: MIB };
        assert_eq!(layout.without(hole), Err(outside));
    }
    let phys = Plan::new(&layout, Phys::At(1), &X86, Placement::Plain);
    assert_eq!(phys, Err(LayoutError::PhysUnaligned(1)));
    let sizes = Plan::new(
        &layout,
        Phys::Natural,
        &LeafSizes::ARM64_64K,
        Placement::Plain,
    );
    let (leaf, layout) = (64 * KIB, 4 * KIB);
    assert_eq!(sizes, Err(LayoutError::OtherPage { leaf, layout }));
}

#[test]
fn a_region_smaller_than_a_page_is_mapped_as_its_page() {
    let layout = whole(256, &X86);
    assert_eq!(layout.areas(), [Area::new(0, 4096)]);
    assert_eq!((layout.region_size(), layout.span()), (256, 4096));
    assert!(
        layout
            .without(Area::new(16, 16))
            .unwrap()
            .areas()
            .is_empty()
    );
}

fn areas() -> impl Strategy<Value = Vec<Area>> {
    let area =
        (0_u64..0x40_0000, 0_u64..0x10_0000).prop_map(|(offset, size)| Area { offset, size });
    prop::collection::vec(area, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn layouts_hold_their_invariants(areas in areas(), size in 1_u64..0x40_0000) {
        let layout = Layout::with_areas(size, 4096, areas.iter().copied()).unwrap();
        let mut last = None;
        for area in layout.areas() {
            prop_assert!(area.size > 0 && area.offset % 4096 == 0 && area.size % 4096 == 0);
            prop_assert!(area.end().unwrap() <= size.next_multiple_of(4096));
            prop_assert!(last.is_none_or(|last| last < area.offset), "apart, in order");
            last = area.end();
            // Each byte of the region in it was offered.
            for byte in (area.offset..area.end().unwrap().min(size)).step_by(512) {
                let offered = |own: &Area| own.offset <= byte && byte < own.end().unwrap();
                prop_assert!(areas.iter().any(offered), "{byte:#x}");
            }
        }
    }

    #[test]
    fn holes_are_never_mapped(holes in areas(), size in 0x10_0000_u64..0x40_0000) {
        let mut layout = whole(size, &X86);
        let mut cut = 0;
        for hole in holes {
            if let Ok(less) = layout.without(hole) {
                layout = less;
                cut += hole.size;
                for area in layout.areas() {
                    let apart = area.end().unwrap() <= hole.offset || hole.end().unwrap() <= area.offset;
                    prop_assert!(apart, "{area} and {hole}");
                }
            }
        }
        prop_assert!(layout.mappable() + cut + 0x2000 * 12 >= size);
    }

    /// No other base, congruent or not, has fewer leaves.
    #[test]
    fn congruent_is_the_best_there_is(
        holes in areas(), size in 0x10_0000_u64..0x40_0000, phys in 0_u64..0x1_0000, base in 0_u64..0x1_0000,
    ) {
        // Small sizes, so that regions hold many leaves of each.
        let sizes = LeafSizes::new(&[0x1000, 0x8000, 0x4_0000]).unwrap();
        let mut layout = whole(size, &sizes);
        for hole in holes {
            layout = layout.without(hole).unwrap_or(layout);
        }
        let plan = Plan::new(&layout, Phys::At(phys << 12), &sizes, Placement::Congruent).unwrap();
        let own = leaves_in(&plan, |shape| shape.start_from(base << 12).unwrap());
        prop_assert_eq!(own, plan.best());
        let other = leaves_in(&plan, |_| base << 12);
        prop_assert!(own.total() <= other.total());
        prop_assert_eq!(own.bytes(), u128::from(layout.mappable()));
        // And the next smaller alignment would not suffice, wherever it makes a difference.
        if let Some(relaxed) = plan.relaxed() {
            let shape = &relaxed.shapes()[0];
            let start = (plan.shapes()[0].residue() + shape.alignment()) % plan.shapes()[0].alignment();
            prop_assert_eq!(start % shape.alignment(), shape.residue());
            prop_assert!(leaves_in(&plan, |_| start).total() > own.total());
        }
    }

    #[test]
    fn starts_fit_and_are_the_lowest(address: u64, bits in 12_u32..31, residue: u64) {
        let alignment = 1_u64 << bits;
        let sizes = LeafSizes::new(&[1, alignment]).unwrap();
        let layout = Layout::whole(2 * alignment, 1).unwrap();
        let plan = Plan::new(&layout, Phys::At(residue), &sizes, Placement::Congruent).unwrap();
        let (shape, residue) = (&plan.shapes()[0], residue % alignment);
        prop_assert_eq!((shape.alignment(), shape.residue()), (alignment, residue));
        match shape.start_from(address) {
            Some(start) => {
                prop_assert!(start >= address && start - address < alignment);
                prop_assert_eq!(start % alignment, residue);
            }
            None => prop_assert!(address > u64::MAX - alignment),
        }
    }
}
