//! A memory file that represents a BAR, plans for it, and the times of two ways beside one another.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hugebar::layout::{Area, Layout};
use hugebar::leaf::LeafSizes;
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan};

/// A sparse file of this size in bytes.
pub(crate) fn file(size: u64) -> OwnedFd {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = rustix::fs::memfd_create("bar", flags).expect("memfd_create");
    rustix::fs::ftruncate(&file, size).expect("ftruncate");
    file
}

/// A congruent plan for a BAR of this size with as many holes of a page, near its start.
pub(crate) fn plan(size: u64, holes: u64) -> Plan {
    let mut layout = Layout::whole(size, 4096).expect("a region");
    for hole in 0..holes {
        let hole = Area::new(0x2000 + hole * 0x4000, 0x1000);
        layout = layout.without(hole).expect("a hole");
    }
    let sizes = LeafSizes::X86_64;
    Plan::new(&layout, Phys::Natural, &sizes, Placement::Congruent).expect("a plan")
}

/// The shortest times of many alternating rounds, so that other load affects both.
pub(crate) fn shortest(mut one: impl FnMut(), mut other: impl FnMut()) -> (Duration, Duration) {
    let time = |body: &mut dyn FnMut()| {
        let begin = Instant::now();
        body();
        begin.elapsed()
    };
    let rounds = (0..400).map(|_| (time(&mut one), time(&mut other)));
    rounds.fold((Duration::MAX, Duration::MAX), |best, round| {
        (best.0.min(round.0), best.1.min(round.1))
    })
}
