//! The system calls of a mapping, as docs/benchmarks.md lists them.

use hugebar::layout::{Area, Layout};
use hugebar::plan::Placement;
use hugebar::seam::record;

use crate::bar::{BAR, map, page, pages, plan, whole};
use crate::maps::File;

pub(crate) const TESTS: &[(&str, fn())] = &[("calls::of_a_mapping", of_a_mapping)];

/// Eight holes, so nine areas.
fn with_eight_holes() -> Layout {
    let holes = (0..8).map(|hole| Area::new(pages(2 + hole * 4), page()));
    holes.fold(whole(), |layout, hole| layout.without(hole).unwrap())
}

fn of_a_mapping() {
    let file = File::new(BAR);
    for (layout, areas) in [(whole(), 1), (with_eight_holes(), 9)] {
        let plan = plan(&layout, Placement::Congruent);
        let (mapping, calls) = record(|| map(&file, &plan));
        let mapping = mapping.unwrap();
        // Only for a file with large blocks, as this host may give to memory files; a device has none.
        let calls: Vec<_> = calls
            .into_iter()
            .filter(|call| *call != "fstatfs")
            .collect();
        assert_eq!(mapping.areas().len(), areas);
        let (reserving, mapping_calls) =
            calls.split_at(calls.iter().position(|call| *call == "fstat").unwrap());
        // The part before the window is empty where the kernel happens to reserve at an aligned address.
        assert!(
            reserving == ["mmap", "munmap", "munmap"] || reserving == ["mmap", "munmap"],
            "{calls:?}"
        );
        let mut due = vec!["fstat"];
        due.extend(["mmap", "munmap"].repeat(areas));
        due.extend(["mmap", "madvise", "madvise"].repeat(areas));
        assert_eq!(mapping_calls, due);
        let ((), calls) = record(|| drop(mapping));
        assert_eq!(calls, ["munmap"]);
    }
}
