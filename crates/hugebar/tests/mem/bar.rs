//! A memory file that represents a BAR, and how tests map it.

use hugebar::layout::Layout;
use hugebar::leaf::{GIB, LeafSizes, MIB};
use hugebar::mem::{MapOptions, Mapping, Window};
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan};

use crate::maps::File;

/// A file that represents a BAR: sparse, so it can be large.
pub(crate) const BAR: u64 = 4 * GIB;
/// A one-page hole near the start.
pub(crate) const HOLE: hugebar::layout::Area = hugebar::layout::Area::new(0x6000, 0x1000);

pub(crate) fn whole() -> Layout {
    Layout::whole(BAR, 4096).unwrap()
}

pub(crate) fn holed() -> Layout {
    whole().without(HOLE).unwrap()
}

pub(crate) fn plan(layout: &Layout, placement: Placement) -> Plan {
    Plan::new(layout, Phys::Natural, &LeafSizes::X86_64, placement).unwrap()
}

pub(crate) fn map(file: &File, plan: &Plan) -> hugebar::Result<Mapping> {
    map_with(file, plan, MapOptions::default())
}

pub(crate) fn map_with(file: &File, plan: &Plan, options: MapOptions) -> hugebar::Result<Mapping> {
    Mapping::new(file, 0, plan, Window::reserve(plan)?, options)
}

pub(crate) const PLACEMENTS: [Placement; 3] = [
    Placement::Congruent,
    Placement::SizeAligned,
    Placement::Plain,
];

/// Half of a huge leaf: an offset that no alignment compensates.
pub(crate) const ODD: u64 = MIB;
