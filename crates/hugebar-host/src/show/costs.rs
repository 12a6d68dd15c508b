//! What a BAR would cost on this kernel, by placement.

use hugebar::facts::{Facts, ThpDisabled, ThpGate};
use hugebar::layout::Layout;
use hugebar::leaf::LeafSizes;
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
    let phys = match bar.has_address() {
        true => Phys::At(bar.start),
        false => Phys::Natural,
    };
    if bar.size < sizes.base() {
        return Vec::new();
    }
    let all = [
        (Placement::Congruent, true),
        (Placement::SizeAligned, false),
        (Placement::Plain, false),
    ];
    let cost = |(placement, hinted)| {
        let layout = Layout::whole(bar.size, sizes.base()).ok()?;
        let plan = Plan::new(&layout, phys, &sizes, placement).ok()?;
        let cost = Cost::of(&plan, &allowed(facts, hinted));
        Some(PlacementCost { placement, cost })
    };
    all.into_iter().filter_map(cost).collect()
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
