//! What a BAR would cost on this kernel, by placement.

use hugebar::facts::{Facts, ThpDisabled, ThpGate};
use hugebar::layout::Layout;
use hugebar::leaf::{LeafSizes, Leaves};
use hugebar::pci::Resource;
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan};

use crate::cost::Cost;

/// What a placement costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlacementCost {
    /// The placement. Congruent mappings are hinted with `MADV_HUGEPAGE`, others are not.
    pub placement: Placement,
    /// The leaves.
    pub cost: Cost,
}

/// The costs of a whole BAR.
pub(super) fn of(bar: &Resource, facts: &Facts) -> Vec<PlacementCost> {
    let sizes = facts.leaf_sizes;
    let all = [
        (Placement::Congruent, true),
        (Placement::SizeAligned, false),
        (Placement::Plain, false),
    ];
    let cost = |(placement, hinted)| {
        let plan = plan(bar, &sizes, placement)?;
        let cost = Cost::of(&plan, &allowed(facts, hinted));
        Some(PlacementCost { placement, cost })
    };
    all.into_iter().filter_map(cost).collect()
}

/// The leaves of a whole BAR at the best addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BarLeaves {
    /// With all leaf sizes of the machine.
    pub best: Leaves,
    /// With those that this kernel gives a hinted mapping. Where that is unknown, all that it has for device memory.
    pub possible: Leaves,
}

/// The leaves of a whole BAR at the best addresses; `None` for one smaller than a page.
pub fn leaves(bar: &Resource, facts: &Facts) -> Option<BarLeaves> {
    let plan = plan(bar, &facts.leaf_sizes, Placement::Congruent)?;
    Some(BarLeaves {
        best: plan.best(),
        possible: Cost::of(&plan, &allowed(facts, true)).best,
    })
}

fn plan(bar: &Resource, sizes: &LeafSizes, placement: Placement) -> Option<Plan> {
    let phys = match bar.has_address() {
        true => Phys::At(bar.start),
        false => Phys::Natural,
    };
    if bar.size < sizes.base() {
        return None;
    }
    let layout = Layout::whole(bar.size, sizes.base()).ok()?;
    Plan::new(&layout, phys, sizes, placement).ok()
}

/// The sizes that this kernel gives a mapping. Where that is unknown, all that it has for device memory.
fn allowed(facts: &Facts, hinted: bool) -> LeafSizes {
    let sizes = facts.device_leaf_sizes();
    let refused = match facts.thp_disabled {
        ThpDisabled::Yes => true,
        ThpDisabled::ExceptAdvised => !hinted,
        ThpDisabled::No => facts.thp_gate(Some(hinted)) == ThpGate::Closed,
    };
    if refused { sizes.only_base() } else { sizes }
}
