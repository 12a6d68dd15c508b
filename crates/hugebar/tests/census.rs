//! The census on memory files of this host: the kernel gives them only base pages, one fault each, like
//! a closed THP gate for a mapping that was placed for larger leaves.

#![allow(unsafe_code, reason = "touches what it has mapped")]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hugebar::ErrorKind;
use hugebar::census::{Census, CensusOptions, census};
use hugebar::facts::{Facts, KernelVersion};
use hugebar::layout::Layout;
use hugebar::leaf::{KIB, LeafSizes, MIB};
use hugebar::mem::{Hint, MapOptions, Mapping, Span, Window};
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan};
use hugebar::populate::{Populate, present};
use hugebar::verdict::Verdict;

/// Populates by writing to each page.
#[derive(Default)]
struct Touch {
    longest: Option<u64>,
    /// At this call the thread takes an additional fault of its own.
    stray: Option<u64>,
    calls: u64,
}

impl Populate for Touch {
    fn name(&self) -> &'static str {
        "touch"
    }

    fn populate(&mut self, span: &Span<'_>) -> hugebar::Result<Duration> {
        let begin = Instant::now();
        for offset in (0..span.bytes()).step_by(4096) {
            let offset = usize::try_from(offset).unwrap();
            // SAFETY: the offset lies in the span.
            let page = unsafe { span.start().add(offset) };
            // SAFETY: the span's pages are mapped for writing, and are a test's own file.
            unsafe { page.write_volatile(1) };
        }
        self.calls += 1;
        if Some(self.calls) == self.stray {
            fresh_page();
        }
        Ok(begin.elapsed())
    }

    fn longest(&self) -> u64 {
        self.longest.unwrap_or(MIB)
    }
}

/// Takes one minor fault.
fn fresh_page() {
    let mapping = map(4096, &LeafSizes::X86_64);
    mapping.write_u8(0, 1).unwrap();
}

fn file(size: u64) -> OwnedFd {
    let file = rustix::fs::memfd_create("bar", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, size).unwrap();
    file
}

fn map(size: u64, sizes: &LeafSizes) -> Mapping {
    let layout = Layout::whole(size, 4096).unwrap();
    let plan = Plan::new(&layout, Phys::Natural, sizes, Placement::Congruent).unwrap();
    map_plan(size, &plan)
}

/// Gets base pages on every host, whatever its policy for huge pages in memory files.
fn map_plan(size: u64, plan: &Plan) -> Mapping {
    let options = MapOptions {
        hint: Hint::NoHugepage,
        ..MapOptions::default()
    };
    let window = Window::reserve(plan).unwrap();
    Mapping::new(file(size), 0, plan, window, options).unwrap()
}

fn facts(release: &str) -> Facts {
    let mut facts = Facts::observe();
    facts.leaf_sizes = LeafSizes::X86_64;
    facts.release = release.to_owned();
    facts.kernel = KernelVersion::parse(release);
    facts
}

fn count_with(
    mapping: &Mapping,
    facts: &Facts,
    touch: &mut Touch,
    limit: Option<u64>,
) -> hugebar::Result<Census> {
    let progress = &mut |_| ControlFlow::Continue(());
    census(mapping, facts, touch, CensusOptions { limit, progress })
}

fn count(mapping: &Mapping, release: &str, limit: Option<u64>) -> hugebar::Result<Census> {
    count_with(mapping, &facts(release), &mut Touch::default(), limit)
}

const X86: LeafSizes = LeafSizes::X86_64;

fn verdict(mapping: &Mapping, census: &Census) -> Verdict {
    census.verdict(&mapping.plan().best(), &mapping.expected(&X86))
}

#[test]
fn pages_are_counted_exactly() {
    for pages in [1, 2, 511, 700] {
        let size = pages * 4 * KIB;
        // Too small for any larger leaf at this physical address.
        let layout = Layout::whole(size, 4096).unwrap();
        let phys = Phys::At(4 * KIB * 100);
        let plan = Plan::new(&layout, phys, &X86, Placement::Congruent).unwrap();
        let mapping = map_plan(size, &plan);
        let census = count(&mapping, "7.3.4", None).unwrap();
        assert_eq!((census.measured.total(), census.faults), (pages, pages));
        assert!(census.complete && !census.broken);
        assert_eq!(verdict(&mapping, &census), Verdict::Optimal);
    }
}

#[test]
fn a_closed_gate_is_found_and_its_pages_counted() {
    let mapping = map(4 * MIB + 12 * KIB, &X86);
    let census = count(&mapping, "7.3.4", None).unwrap();
    assert_eq!(census.measured.count(4 * KIB), 1024 + 3);
    assert_eq!(census.measured.total(), census.faults);
    assert_eq!(census.expected.to_string(), "2 × 2 MiB + 3 × 4 KiB");
    assert!(census.broken && census.complete);
    assert_eq!(verdict(&mapping, &census), Verdict::Degraded);
}

#[test]
fn beyond_the_limit_a_closed_gate_is_degraded_all_the_same() {
    let mapping = map(4 * MIB, &X86);
    let census = count(&mapping, "7.3.4", Some(MIB)).unwrap();
    assert_eq!((census.measured.total(), census.complete), (0, false));
    assert_eq!(verdict(&mapping, &census), Verdict::Degraded);
    let mapping = map(4 * MIB, &X86);
    let census = count(&mapping, "7.3.4", Some(3 * MIB)).unwrap();
    assert_eq!(census.measured.count(4 * KIB), 512, "one block");
    assert_eq!(verdict(&mapping, &census), Verdict::Degraded);
}

#[test]
fn a_second_count_is_refused() {
    let mapping = map(64 * KIB, &X86);
    count(&mapping, "7.3.4", None).unwrap();
    let error = count(&mapping, "7.3.4", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyPopulated, "{error}");
    // Also in parts.
    let mapping = map(64 * KIB, &X86);
    mapping.write_u8(9 * 4096, 1).unwrap();
    let error = count(&mapping, "7.3.4", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyPopulated, "{error}");
}

/// An old version that takes a fault for each leaf, like a distribution's kernel with backported huge
/// leaves.
#[test]
fn an_old_version_does_not_deceive() {
    for size in [4 * KIB, 16 * KIB, MIB, 2 * MIB, 6 * MIB + 4 * KIB] {
        let mapping = map(size, &X86);
        let census = count(&mapping, "5.14.0-427.el9", None).unwrap();
        let pages = size / (4 * KIB);
        assert_eq!(census.measured.count(4 * KIB), pages, "{size:#x}");
        assert_eq!(census.faults, pages, "{size:#x}");
        assert!(census.complete);
    }
}

/// Populates like a kernel before huge leaves: the first access fills the whole mapping.
struct Fill<'a> {
    mapping: &'a Mapping,
    /// Unmapped right afterwards, as another thread might do.
    ballast: Option<Mapping>,
}

impl Populate for Fill<'_> {
    fn name(&self) -> &'static str {
        "fill"
    }

    fn populate(&mut self, span: &Span<'_>) -> hugebar::Result<Duration> {
        let own = self.mapping.areas()[0];
        let distance = (span.start().addr().get() as u64).wrapping_sub(own.address());
        // But not the page for a census's warm-up.
        if distance < own.area.size {
            touch_all(self.mapping);
            self.ballast = None;
        }
        Touch::default().populate(span)
    }
}

fn touch_all(mapping: &Mapping) {
    let size = mapping.plan().layout().mappable();
    for page in (0..size).step_by(4096) {
        mapping.write_u8(page, 1).unwrap();
    }
}

fn count_filled(mapping: &Mapping, ballast: Option<Mapping>) -> hugebar::Result<Census> {
    let mut fill = Fill { mapping, ballast };
    let progress = &mut |_| ControlFlow::Continue(());
    let options = CensusOptions {
        limit: None,
        progress,
    };
    census(mapping, &facts("6.1.0"), &mut fill, options)
}

/// Page tables belong to the whole process: tables that other threads free must not hide what was filled.
#[test]
fn an_area_that_one_fault_fills_has_pages_whatever_other_threads_do() {
    for with_ballast in [false, true] {
        let ballast = with_ballast.then(|| map(128 * MIB, &X86));
        ballast.as_ref().inspect(|ballast| touch_all(ballast));
        let mapping = map(6 * MIB + 4 * KIB, &X86);
        let census = count_filled(&mapping, ballast).unwrap();
        assert_eq!(census.measured.count(4 * KIB), 3 * 512 + 1);
        assert!(census.complete && !census.broken);
    }
}

/// For a single leaf only the page tables can decide; if they cannot, nothing is claimed.
#[test]
fn what_cannot_be_told_is_no_count() {
    let ballast = map(128 * MIB, &X86);
    touch_all(&ballast);
    let mapping = map(2 * MIB, &X86);
    let error = count_filled(&mapping, Some(ballast)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Miscounted, "{error}");
}

#[test]
fn on_an_old_kernel_nothing_beyond_the_limit_is_touched() {
    let mapping = map(4 * MIB, &X86);
    let census = count(&mapping, "6.1.0", Some(MIB)).unwrap();
    assert_eq!((census.faults, census.complete), (0, false));
    assert_eq!(verdict(&mapping, &census), Verdict::Unmeasured);
}

#[test]
fn steps_of_any_length_add_up() {
    for longest in [0, 1, 4096, 5000, 12 * KIB, 1 << 40] {
        let mapping = map(2 * MIB, &X86);
        let touch = &mut Touch {
            longest: Some(longest),
            ..Touch::default()
        };
        let census = count_with(&mapping, &facts("7.3.4"), touch, None).unwrap();
        assert_eq!(census.measured.count(4 * KIB), 512, "{longest}");
    }
}

/// More faults than base pages do not mean more leaves, whatever their cause.
#[test]
fn faults_of_other_causes_are_no_leaves() {
    for size in [64 * KIB, 2 * MIB, 4 * MIB + 4 * KIB] {
        for calls in 3..12 {
            // Two calls warm up; the third one counts.
            let touch = &mut Touch {
                stray: Some(calls),
                ..Touch::default()
            };
            let mapping = map(size, &X86);
            let census = count_with(&mapping, &facts("7.3.4"), touch, None).unwrap();
            assert_eq!(census.measured.count(4 * KIB), size / (4 * KIB), "{calls}");
            assert_eq!(census.measured.total(), size / (4 * KIB));
            assert!(census.complete);
        }
    }
}

/// Takes the faults of a kernel with large leaves, and at first some of other causes.
struct LargeLeaf {
    /// Size of each leaf in bytes.
    leaf: u64,
    installed: BTreeSet<u64>,
    /// How many present pages take a fault of another cause, before that ends.
    stray: u32,
    /// Untouched pages, one for each fault.
    untouched: Mapping,
    faults: u64,
}

impl LargeLeaf {
    fn fault(&mut self) {
        self.untouched.write_u8(self.faults * 4 * KIB, 1).unwrap();
        self.faults += 1;
    }
}

impl Populate for LargeLeaf {
    fn name(&self) -> &'static str {
        "model"
    }

    fn populate(&mut self, span: &Span<'_>) -> hugebar::Result<Duration> {
        let start = span.start().addr().get() as u64;
        for page in (start..start + span.bytes()).step_by(4096) {
            if self.installed.insert(page / self.leaf * self.leaf) {
                self.fault();
            } else if self.stray > 0 && self.installed.insert(page) {
                self.stray -= 1;
                self.fault();
            }
        }
        Ok(Duration::ZERO)
    }
}

/// Two pages that fault for other causes look like smaller leaves. None of these is missing, so there are none.
#[test]
fn a_leaf_that_looks_smaller_at_first_is_one() {
    let sizes = LeafSizes::new(&[4 * KIB, 2 * MIB, 16 * MIB]).unwrap();
    let mut facts = facts("7.3.4");
    facts.leaf_sizes = sizes;
    for stray in 0..=4 {
        let mapping = map(32 * MIB, &sizes);
        let mut model = LargeLeaf {
            leaf: 16 * MIB,
            installed: BTreeSet::new(),
            stray,
            untouched: map(MIB, &X86),
            faults: 0,
        };
        let progress = &mut |_| ControlFlow::Continue(());
        let options = CensusOptions {
            limit: None,
            progress,
        };
        let census = census(&mapping, &facts, &mut model, options).unwrap();
        assert_eq!(census.measured.count(16 * MIB), 2, "{stray}: {census:?}");
        assert_eq!((census.measured.total(), census.broken), (2, false));
    }
}

/// Having touched exactly the pages that a simple count would check must still be detected.
#[test]
fn pages_at_the_ends_that_were_there_before_are_no_large_leaf() {
    let first = |_: u64| vec![0];
    let last = |size: u64| vec![size - 8];
    let ends = |size: u64| vec![0, 8, size - 4096, size - 8];
    let inner = |size: u64| (1..8).map(|part| part * size / 8).collect::<Vec<_>>();
    let most = |size: u64| (0..size - 4096).step_by(4096).collect::<Vec<_>>();
    let touched: [&dyn Fn(u64) -> Vec<u64>; 5] = [&first, &last, &ends, &inner, &most];
    let three = LeafSizes::new(&[4 * KIB, 2 * MIB, 16 * MIB]).unwrap();
    for (sizes, size) in [(X86, 2 * MIB), (three, 16 * MIB)] {
        let mut facts = facts("7.3.4");
        facts.leaf_sizes = sizes;
        for (index, touched) in touched.into_iter().enumerate() {
            let mapping = map(4 * size, &sizes);
            for block in 0..4 {
                for offset in touched(size) {
                    mapping.write_u8(block * size + offset, 1).unwrap();
                }
            }
            let counted = count_with(&mapping, &facts, &mut Touch::default(), None);
            let error = counted.expect_err("it was touched before");
            assert_eq!(
                error.kind(),
                ErrorKind::AlreadyPopulated,
                "{index}: {error}"
            );
        }
    }
}

#[test]
fn leaf_sizes_that_the_plan_did_not_know_are_refused() {
    let mapping = map(64 * KIB, &LeafSizes::ARM64_4K);
    let error = count(&mapping, "7.3.4", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    // An older kernel has fewer, which is fine.
    assert!(count(&mapping, "6.1.0", None).is_ok());
}

/// Larger than the machine's: such a mapping need not start where one of them does.
#[test]
fn pages_of_another_size_are_refused() {
    let sizes = LeafSizes::ARM64_64K;
    let layout = Layout::whole(MIB, sizes.base()).unwrap();
    let plan = Plan::new(&layout, Phys::Natural, &sizes, Placement::Plain).unwrap();
    let mapping = map_plan(MIB, &plan);
    let mut facts = facts("7.3.4");
    facts.leaf_sizes = sizes;
    let error = count_with(&mapping, &facts, &mut Touch::default(), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn it_stops_when_told_to_and_tells_how_far_it_is() {
    let mapping = map(4 * MIB, &X86);
    let mut seen = Vec::new();
    let progress = &mut |progress: hugebar::census::Progress| {
        seen.push((progress.done, progress.total));
        match progress.done {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    };
    let options = CensusOptions {
        limit: None,
        progress,
    };
    let error = census(&mapping, &facts("7.3.4"), &mut Touch::default(), options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped);
    assert_eq!(seen.last(), Some(&(2 * MIB, 4 * MIB)));
}

/// One step for each leaf that the kernel is said to have, which is all that it takes where that is true.
#[test]
fn making_it_present_takes_a_step_for_each_leaf() {
    let mut touch = Touch::default();
    let installed = present(&map(8 * MIB, &X86), &X86, &mut touch).unwrap();
    assert_eq!((touch.calls, installed.faults), (4, 4));

    // Base pages are populated in steps as long as possible.
    let mut touch = Touch::default();
    let mapping = map(8 * MIB + 4 * KIB, &X86);
    let installed = present(&mapping, &X86.only_base(), &mut touch).unwrap();
    assert_eq!((touch.calls, installed.faults), (9, 2049));
}
