//! Windows and mappings of memory files on this host, checked in `/proc/self/maps`.

#![allow(
    unsafe_code,
    reason = "plays the other thread, and the owner of an arena"
)]

mod access;
mod arena;
mod failures;
mod maps;
mod place;

use libtest_mimic::{Arguments, Trial};

use hugebar::layout::Layout;
use hugebar::leaf::{GIB, LeafSizes, MIB};
use hugebar::mem::{MapOptions, Mapping, Window};
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan};
use maps::{File, unchanged};

fn main() {
    let tests: Vec<(&str, fn())> =
        [place::TESTS, access::TESTS, arena::TESTS, failures::TESTS].concat();
    let trial = |(name, test): (&'static str, fn())| {
        Trial::test(name, move || {
            unchanged(test);
            Ok(())
        })
    };
    // The page that tells processes apart is made once and stays.
    drop(Window::reserve(&plan(&whole(), Placement::Congruent)));
    let mut arguments = Arguments::from_args();
    // On the main thread, one after another: no other thread changes the address space meanwhile.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect()).exit();
}

/// What stands for a BAR: sparse, so it can be large.
const BAR: u64 = 4 * GIB;
/// A hole as small as a page near the start.
const HOLE: hugebar::layout::Area = hugebar::layout::Area::new(0x6000, 0x1000);

fn whole() -> Layout {
    Layout::whole(BAR, 4096).unwrap()
}

fn holed() -> Layout {
    whole().without(HOLE).unwrap()
}

fn plan(layout: &Layout, placement: Placement) -> Plan {
    Plan::new(layout, Phys::Natural, &LeafSizes::X86_64, placement).unwrap()
}

fn map(file: &File, plan: &Plan) -> hugebar::Result<Mapping> {
    map_with(file, plan, MapOptions::default())
}

fn map_with(file: &File, plan: &Plan, options: MapOptions) -> hugebar::Result<Mapping> {
    Mapping::new(file, 0, plan, Window::reserve(plan)?, options)
}

const PLACEMENTS: [Placement; 3] = [
    Placement::Congruent,
    Placement::SizeAligned,
    Placement::Plain,
];

/// Half of what a huge leaf spans: an offset that no alignment forgives.
const ODD: u64 = MIB;
