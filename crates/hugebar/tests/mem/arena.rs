//! Windows in the caller's own address range.

use std::ptr::NonNull;

use hugebar::ErrorKind;
use hugebar::mem::{MapOptions, Mapping, Window};
use hugebar::plan::{Placement, Plan};
use hugebar::seam::record;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::bar::{BAR, PLACEMENTS, holed, pages, plan, sizes, smaller, whole};
use crate::maps::{File, at, reserved};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "arena::mappings_go_in_and_reservations_come_back",
        in_and_out,
    ),
    ("arena::a_tight_arena_costs_alignment", tight),
    ("arena::what_does_not_fit_is_refused", does_not_fit),
    ("arena::what_the_file_refuses_changes_nothing", refused),
    (
        "arena::nothing_outside_the_window_is_touched",
        nothing_outside,
    ),
];

/// The caller's own addresses.
pub(crate) struct Arena {
    pub(crate) base: NonNull<u8>,
    pub(crate) len: usize,
}

impl Arena {
    pub(crate) fn new(len: u64) -> Self {
        let len = usize::try_from(len).unwrap();
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses free addresses.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::empty(), flags) };
        let base = NonNull::new(base.unwrap().cast()).unwrap();
        Self { base, len }
    }

    pub(crate) fn address(&self) -> u64 {
        self.base.addr().get() as u64
    }

    pub(crate) fn window(&self, plan: &Plan) -> hugebar::Result<Window> {
        // SAFETY: the arena is ours, holds nothing, and outlives the tests' windows.
        unsafe { Window::within(plan, self.base, self.len) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the arena is ours, and nothing is in it any more.
        unsafe { munmap(self.base.as_ptr().cast(), self.len) }.unwrap();
    }
}

fn in_and_out() {
    let file = File::new(BAR);
    let arena = Arena::new(3 * BAR);
    for placement in PLACEMENTS {
        let plan = plan(&holed(), placement);
        let window = arena.window(&plan).unwrap();
        let mapping = Mapping::new(&file, 0, &plan, window, MapOptions::default()).unwrap();
        for mapped in mapping.areas() {
            let address = mapped.address();
            let inside = arena.address() <= address
                && address + mapped.area.size <= arena.address() + arena.len as u64;
            assert!(inside, "{placement}");
            assert_eq!(at(address).unwrap().mode, "rw-s");
        }
        if placement == Placement::Congruent {
            let largest = sizes().largest();
            assert_eq!(mapping.areas()[0].address() % largest, 0);
            assert_eq!(mapping.alignment(), largest);
        }
        mapping.write_u32(pages(7), 3).unwrap();
        drop(mapping);
        assert!(reserved(arena.address(), arena.len as u64), "{placement}");
        drop(arena.window(&plan).unwrap());
        assert!(
            reserved(arena.address(), arena.len as u64),
            "an unused window"
        );
    }
}

fn tight() {
    let file = File::new(BAR);
    let (largest, smaller) = (sizes().largest(), smaller());
    let arena = Arena::new(BAR + smaller);
    let plan = plan(&whole(), Placement::Congruent);
    let window = arena.window(&plan).unwrap();
    let has_room = arena.address().next_multiple_of(largest) - arena.address() <= smaller;
    assert_eq!(window.alignment(), if has_room { largest } else { smaller });
    let mapping = Mapping::new(&file, 0, &plan, window, MapOptions::default()).unwrap();
    assert_eq!(mapping.areas()[0].address() % smaller, 0);
}

fn does_not_fit() {
    let arena = Arena::new(BAR);
    let tight = plan(&whole(), Placement::Congruent);
    // Page alignment always fits where the length does.
    assert!(arena.window(&tight).is_ok());
    let half = Arena::new(BAR / 2);
    let error = half.window(&tight).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    // SAFETY: as for `Arena::window`; refused for its length, which is not whole pages.
    let odd = unsafe { Window::within(&tight, arena.base, arena.len - 1) };
    assert_eq!(odd.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// The file's refusal is detected before anything in the arena is replaced, with any placement.
fn refused() {
    let file = File::new(BAR);
    rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::FUTURE_WRITE).unwrap();
    let arena = Arena::new(3 * BAR);
    for placement in PLACEMENTS {
        let plan = plan(&holed(), placement);
        let window = arena.window(&plan).unwrap();
        let new = || Mapping::new(&file, 0, &plan, window, MapOptions::default());
        let (result, calls) = record(new);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(
            calls,
            ["fstat", "mmap"],
            "{placement}: the trial mapping only"
        );
    }
}

fn nothing_outside() {
    let file = File::new(BAR);
    let arena = Arena::new(3 * BAR);
    let plan = plan(&whole(), Placement::Congruent);
    let window = arena.window(&plan).unwrap();
    let (start, len) = window.blocks().next().unwrap();
    let start = start.addr().get() as u64;
    let mapping = Mapping::new(&file, 0, &plan, window, MapOptions::default()).unwrap();
    let end = start + len as u64;
    assert!(reserved(arena.address(), start - arena.address()));
    assert!(reserved(end, arena.address() + arena.len as u64 - end));
    drop(mapping);
}
