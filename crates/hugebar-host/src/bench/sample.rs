//! One mapping of a BAR, from beginning to end.

use std::ops::ControlFlow;
use std::time::Duration;

use hugebar::bar::{Bar, UnmappedBar};
use hugebar::facts::{Facts, Status, ThpGate};
use hugebar::iommu::AddressSpace;
use hugebar::layout::Area;
use hugebar::leaf::{LeafSizes, Leaves};
use hugebar::mem::Hint;
use hugebar::plan::Placement;
use hugebar::populate::{Populate, install, present};
use hugebar::vfio::Device;
use hugebar::{ErrorKind, Result};

use super::budget::Cost;
use super::steady::Steady;
use super::{Step, decode, timed};

/// What is mapped, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct What<'a> {
    pub(super) bar: u32,
    pub(super) placement: Placement,
    pub(super) hint: Hint,
    /// The length of the prefix.
    pub(super) size: u64,
    pub(super) holes: &'a [Area],
}

/// How it is measured.
pub(super) struct Means<'a> {
    pub(super) device: &'a Device,
    pub(super) facts: &'a Facts,
    pub(super) populate: Option<&'a mut dyn Populate>,
    /// Where the whole is mapped for DMA.
    pub(super) space: Option<&'a AddressSpace>,
}

/// What one mapping took.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// The address of its first byte.
    pub address: u64,
    /// The leaves that these addresses give on this kernel.
    pub expected: Leaves,
    /// Whether the kernel installed just these: at least as many faults (those of other causes add to them), and none more
    /// for the last page of each large leaf. Before Linux 6.12, whether the page tables have grown by as much.
    pub counted: bool,
    /// Minor faults of making it present; `None` if nothing can populate it.
    pub faults: Option<u64>,
    /// What the page tables of this process grew by in bytes (`VmPTE`).
    pub page_tables: Option<u64>,
    /// Why the whole was not mapped for DMA, if that was tried.
    pub no_dma: Option<String>,
    times: [Option<Duration>; Step::ALL.len()],
}

impl Sample {
    /// How long a step took; `None` if it was not done.
    pub fn time(&self, step: Step) -> Option<Duration> {
        self.times[step.index()]
    }

    /// What it took in all, by what it grows with: leaves, and bytes.
    pub(super) fn cost(&self, bytes: u64) -> Cost {
        let sum = |steps: &[Step]| {
            let times = steps.iter().filter_map(|step| self.time(*step));
            times.sum::<Duration>()
        };
        Cost {
            leaves: self.expected.total(),
            bytes,
            by_leaf: sum(&[
                Step::Map,
                Step::Present,
                Step::Present,
                Step::PresentAgain,
                Step::Unmap,
            ]),
            by_byte: sum(&[Step::DmaMap, Step::DmaUnmap]),
        }
    }

    fn took(&mut self, step: Step, time: Duration) {
        self.times[step.index()] = Some(time);
    }
}

impl What<'_> {
    fn unmapped<'d>(&self, device: &'d Device) -> Result<UnmappedBar<'d>> {
        let bar = device.bar(self.bar)?;
        let whole = bar.region().size();
        let mut bar = bar.placement(self.placement).hint(self.hint);
        if self.size < whole {
            bar = bar.exclude(Area::new(self.size, whole - self.size));
        }
        for &hole in self.holes {
            if let Some(hole) = hole.clamped(self.size) {
                bar = bar.exclude(hole);
            }
        }
        Ok(bar)
    }

    /// Maps it, and tells how long that took.
    pub(super) fn map(&self, device: &Device) -> Result<(Bar, Duration)> {
        let bar = self.unmapped(device)?;
        let (bar, time) = timed(|| bar.map());
        Ok((bar?, time))
    }

    /// Maps it anew at the same addresses, where no leaf is left.
    fn anew(&self, device: &Device, bar: Bar) -> Result<Bar> {
        self.unmapped(device)?.within(bar.into_window()?).map()
    }
}

/// The leaf sizes that the kernel gives a mapping.
pub(super) fn sizes(bar: &Bar, facts: &Facts) -> LeafSizes {
    let sizes = facts.device_leaf_sizes();
    let closed = facts.thp_gate(Some(bar.hinted())) == ThpGate::Closed;
    match closed || bar.no_hugepage() {
        true => sizes.only_base(),
        false => sizes,
    }
}

/// Takes all steps with a mapped BAR. `mapping` is how long mapping it took.
pub(super) fn measure(
    what: &What<'_>,
    means: &mut Means<'_>,
    (bar, mapping, tables): (Bar, Duration, Option<u64>),
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Sample> {
    let sizes = sizes(&bar, means.facts);
    let mut sample = Sample {
        address: bar.areas().first().map_or(0, |area| area.address()),
        expected: bar.expected(&sizes),
        counted: false,
        faults: None,
        page_tables: None,
        times: [None; Step::ALL.len()],
        no_dma: None,
    };
    sample.took(Step::Map, mapping);
    if let Some(populate) = means.populate.as_deref_mut() {
        let mut populate = Steady::new(populate, go_on);
        fill(
            &mut sample,
            &bar,
            &sizes,
            means.facts,
            &mut populate,
            tables,
        )?;
        if decode::off_and_on(means.device)? {
            let again = present(&bar, &sizes, &mut populate)?;
            sample.took(Step::PresentAgain, again.elapsed);
        }
    }
    let mut bar = bar;
    if let Some(space) = means.space {
        if go_on().is_break() {
            return Err(super::steady::stopped());
        }
        if means.populate.is_some() {
            bar = what.anew(means.device, bar)?;
        }
        let (peer, time) = timed(|| space.map_bar(means.device, &bar));
        match peer {
            Ok(peer) => {
                sample.took(Step::DmaMap, time);
                let (unmapped, time) = timed(|| peer.unmap());
                unmapped?;
                sample.took(Step::DmaUnmap, time);
            }
            Err(error) if is_refusal(error.kind()) => sample.no_dma = Some(error.fact()),
            Err(error) => return Err(error),
        }
    }
    let ((), time) = timed(|| drop(bar));
    sample.took(Step::Unmap, time);
    Ok(sample)
}

fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unsupported | ErrorKind::NotMappableForDma | ErrorKind::OutOfMemory
    )
}

/// Makes the BAR present, and finds out whether the leaves are those expected.
fn fill(
    sample: &mut Sample,
    bar: &Bar,
    sizes: &LeafSizes,
    facts: &Facts,
    populate: &mut Steady<'_>,
    tables: Option<u64>,
) -> Result<()> {
    let first = present(bar, sizes, populate)?;
    let tables = tables.and_then(|before| Some(page_tables()?.saturating_sub(before)));
    let expected = sample.expected;
    let base = expected.count(sizes.base());
    let (mut faults, mut elapsed) = (first.faults, first.elapsed);
    // Faults of other causes, such as NUMA balancing, can only add to them.
    let mut proven = faults >= expected.total();
    if facts.features().huge_device_leaves() == Some(false) {
        // One fault fills an area; the entries of its pages show in the tables.
        proven = faults > 0 && tables.is_some_and(|grown| grown >= base.saturating_mul(8));
    } else if base < expected.total() || !proven {
        // Their last pages take no fault where the leaves are as large as expected.
        let missing = install(bar, populate)?;
        proven &= missing.faults == 0;
        faults = faults.saturating_add(missing.faults);
        if missing.faults > 0 {
            elapsed += missing.elapsed;
        }
    }
    sample.counted = proven;
    sample.faults = Some(faults);
    sample.page_tables = tables;
    sample.took(Step::Present, elapsed);
    Ok(())
}

/// The memory of this process's page tables in bytes.
pub(super) fn page_tables() -> Option<u64> {
    Status::own().ok()?.vm_pte
}
