//! A memory file that represents a BAR, and how tests map it.

use hugebar::layout::{Area, Layout};
use hugebar::leaf::{GIB, LeafSizes};
use hugebar::mem::{MapOptions, Mapping, Window};
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan};

use crate::maps::File;

/// A file that represents a BAR: sparse, so it can be large.
pub(crate) const BAR: u64 = 4 * GIB;

/// The page of this machine.
pub(crate) fn page() -> u64 {
    rustix::param::page_size() as u64
}

/// So many pages of this machine.
pub(crate) fn pages(count: u64) -> u64 {
    count * page()
}

/// Leaf sizes on pages of this machine; with 4 KiB those of x86-64, which every such machine has addresses for.
pub(crate) fn sizes() -> LeafSizes {
    let all = [
        LeafSizes::X86_64,
        LeafSizes::ARM64_16K,
        LeafSizes::ARM64_64K,
    ];
    let own = all.into_iter().find(|sizes| sizes.base() == page());
    own.expect("pages of 4, 16 or 64 KiB")
}

/// The next smaller leaf than the largest.
pub(crate) fn smaller() -> u64 {
    sizes().below(sizes().largest()).unwrap().largest()
}

/// A one-page hole near the start.
pub(crate) fn hole() -> Area {
    Area::new(pages(6), page())
}

pub(crate) fn whole() -> Layout {
    Layout::whole(BAR, page()).unwrap()
}

pub(crate) fn holed() -> Layout {
    whole().without(hole()).unwrap()
}

pub(crate) fn plan(layout: &Layout, placement: Placement) -> Plan {
    Plan::new(layout, Phys::Natural, &sizes(), placement).unwrap()
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

/// Half of the smallest huge leaf: an offset that no alignment compensates.
pub(crate) fn odd() -> u64 {
    sizes().as_slice()[1] / 2
}
