//! What a placement costs: the leaves at the best and at the worst of the addresses that it allows. Pure arithmetic.

use hugebar::leaf::{self, LeafSizes, Leaves};
use hugebar::plan::{Plan, Shape};

/// The leaves of a plan, by luck: only [`hugebar::plan::Placement::Congruent`] leaves nothing to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cost {
    /// The fewest leaves at addresses that the placement allows.
    pub best: Leaves,
    /// The most.
    pub worst: Leaves,
}

impl Cost {
    /// The leaves of a plan. `sizes` are those that the kernel uses, a part of the machine's ([`Plan::sizes`]).
    ///
    /// ```
    /// use hugebar::{layout::Layout, leaf::{GIB, LeafSizes}, phys::Phys, plan::{Placement, Plan}};
    /// use hugebar_host::cost::Cost;
    /// let layout = Layout::whole(4 * GIB, 4096)?;
    /// let plan = Plan::new(&layout, Phys::Natural, &LeafSizes::X86_64, Placement::Plain)?;
    /// let cost = Cost::of(&plan, &LeafSizes::X86_64);
    /// assert_eq!((cost.best.total(), cost.worst.total()), (4, 1_048_576));
    /// # Ok::<(), hugebar::layout::LayoutError>(())
    /// ```
    pub fn of(plan: &Plan, sizes: &LeafSizes) -> Self {
        Self {
            best: sum(plan, sizes, |shape| lucky(plan, shape)),
            // If the lucky start is congruent with the physical address, this one is so only modulo the alignment.
            // If not, both are equally far from it.
            worst: sum(plan, sizes, |shape| {
                lucky(plan, shape).wrapping_add(shape.alignment())
            }),
        }
    }
}

/// The leaves if the region lies at `hva`, whatever a placement would have chosen. `sizes` as for [`Cost::of`].
pub fn at(plan: &Plan, hva: u64, sizes: &LeafSizes) -> Leaves {
    sum(plan, sizes, |shape| hva.wrapping_add(shape.origin()))
}

/// The start of a shape that is congruent with its physical address modulo every size, if the shape allows one.
fn lucky(plan: &Plan, shape: &Shape) -> u64 {
    let hpa = plan.phys().behind(shape.origin());
    let residue = shape.residue();
    match hpa.wrapping_sub(residue) & (shape.alignment() - 1) {
        0 => hpa,
        _ => residue,
    }
}

/// The leaves if each shape starts at the address that `start` returns.
fn sum(plan: &Plan, sizes: &LeafSizes, start: impl Fn(&Shape) -> u64) -> Leaves {
    let mut sum = Leaves::none(plan.sizes());
    for shape in plan.shapes() {
        for area in plan.layout().areas().get(shape.areas()).unwrap_or_default() {
            let inside = area.offset.wrapping_sub(shape.origin());
            let address = start(shape).wrapping_add(inside);
            let hpa = plan.phys().behind(area.offset);
            sum.add_all(&leaf::leaves(address, hpa, area.size, sizes));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use hugebar::layout::{Area, Layout};
    use hugebar::phys::Phys;
    use hugebar::plan::Placement;

    const ALL: [Placement; 3] = [
        Placement::Congruent,
        Placement::SizeAligned,
        Placement::Plain,
    ];

    /// Tries every address that a placement allows.
    #[test]
    fn no_address_is_better_than_the_best_or_worse_than_the_worst() {
        let sizes = LeafSizes::new(&[4096, 4 * 4096, 16 * 4096]).unwrap();
        let layout = |size: u64, holes: &[Area]| {
            let whole = Layout::whole(size * 4096, 4096);
            holes
                .iter()
                .fold(whole, |layout, &hole| layout?.without(hole))
                .unwrap()
        };
        let hole = Area::new(5 * 4096, 4096);
        let layouts = [
            layout(64, &[]),
            layout(64, &[hole]),
            layout(57, &[]),
            layout(3, &[]),
            layout(48, &[hole, Area::new(0, 4096)]),
        ];
        let places = [Phys::Natural, Phys::At(7 * 4096), Phys::At(4 * 4096)];
        for (layout, phys) in layouts
            .iter()
            .flat_map(|own| places.map(|phys| (own, phys)))
        {
            for placement in ALL {
                let plan = Plan::new(layout, phys, &sizes, placement).unwrap();
                let cost = Cost::of(&plan, &sizes);
                let (mut best, mut worst) = (0, 0);
                for shape in plan.shapes() {
                    let starts = (0..2 * 16).filter_map(|page| shape.start_from(page * 4096));
                    let own = |start| {
                        let only = |other: &Shape| if other == shape { start } else { 0 };
                        let areas = &layout.areas()[shape.areas()];
                        let one = areas.iter().map(|area| {
                            let address = only(shape) + (area.offset - shape.origin());
                            let hpa = phys.behind(area.offset);
                            leaf::leaves(address, hpa, area.size, &sizes).total()
                        });
                        one.sum::<u64>()
                    };
                    let totals: Vec<_> = starts.map(own).collect();
                    best += totals.iter().min().unwrap();
                    worst += totals.iter().max().unwrap();
                }
                let found = (cost.best.total(), cost.worst.total());
                assert_eq!(found, (best, worst), "{layout:?} {phys:?} {placement}");
            }
        }
    }

    #[test]
    fn a_kernel_with_base_pages_only_has_those() {
        let sizes = LeafSizes::X86_64;
        let layout = Layout::whole(4 << 20, 4096).unwrap();
        let plan = Plan::new(&layout, Phys::Natural, &sizes, Placement::Congruent).unwrap();
        let cost = Cost::of(&plan, &sizes.only_base());
        assert_eq!((cost.best.total(), cost.worst.total()), (1024, 1024));
        assert_eq!(cost.best.sizes(), &sizes);
        assert_eq!(at(&plan, 0x7f00_0020_0000, &sizes).total(), 2);
        assert_eq!(at(&plan, 0x7f00_0020_1000, &sizes).total(), 1024);
    }
}
