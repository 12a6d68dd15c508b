//! Rounds: every size of a BAR with every placement, in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Instant;

use hugebar::leaf::MIB;
use hugebar::plan::Placement;
use hugebar::reason::Reason;
use hugebar::vfio::Device;
use hugebar::{ErrorKind, Result};

use super::budget::Share;
use super::sample::{self, Means, Sample, What};
use super::{Options, Progress, Spread, Step, Watch};
use crate::populate;

/// How much of the BAR is mapped once before anything is measured: the first time costs what later ones do not.
const WARM_UP: u64 = 64 * MIB;

/// Why something was not measured, or less often than asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum LeftOut {
    /// It has more base pages than [`Options::limit`] allows.
    Limit,
    /// It would have ended after its placement's share of the time until [`Options::deadline`].
    Budget,
    /// The benchmark was stopped.
    Stopped,
}

/// The measurements of a placement and a size.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Series {
    /// How addresses were chosen.
    pub placement: Placement,
    /// The length of the prefix of the BAR in bytes.
    pub size: u64,
    /// One for each round.
    pub samples: Vec<Sample>,
    /// Why there are fewer than asked for.
    pub left_out: Option<LeftOut>,
}

impl Series {
    /// What a step took in nanoseconds; `None` if it was never done.
    pub fn time(&self, step: Step) -> Option<Spread> {
        let times = self.samples.iter().filter_map(|sample| sample.time(step));
        Spread::of(times.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The number of leaves, where they were counted.
    pub fn leaves(&self) -> Option<Spread> {
        let counted = self.samples.iter().filter(|sample| sample.counted);
        Spread::of(counted.map(|sample| sample.expected.total()))
    }

    /// What the page tables grew by in bytes.
    pub fn page_tables(&self) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(|sample| sample.page_tables))
    }
}

/// The measurements of a BAR.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measured {
    /// Its number.
    pub bar: u32,
    /// Its size in bytes.
    pub size: u64,
    /// How leaves were installed.
    pub populated_by: Option<&'static str>,
    /// Why they were not.
    pub unpopulated: Option<Reason>,
    /// By size, and for each size by placement.
    pub series: Vec<Series>,
}

/// Measures a BAR (`mmap`, `VFIO_IOMMU_MAP_DMA` or `KVM_PRE_FAULT_MEMORY`, and for DMA what
/// [`hugebar::iommu::AddressSpace::map_bar`] needs). Reads and writes no register in it, but turns memory decode of the
/// device off and on. No other process and no other thread may use the device meanwhile.
///
/// # Errors
///
/// Those of mapping and populating.
pub fn bar(
    device: &Device,
    number: u32,
    options: &Options<'_>,
    watch: Watch<'_>,
) -> Result<Measured> {
    let whole = device.bar(number)?.region().size();
    let mut sizes: Vec<_> = options
        .sizes
        .iter()
        .copied()
        .filter(|size| *size <= whole)
        .collect();
    if sizes.is_empty() {
        sizes.push(whole);
    }
    let (mut populate, unpopulated) = match populate::for_device(device) {
        Ok(populate) => (Some(populate), None),
        Err(reason) => (None, Some(reason)),
    };
    let space = match options.dma {
        // Without an IOMMU there is none.
        true => device.address_space().ok(),
        false => None,
    };
    if !options.present {
        populate = None;
    }
    let populated_by = populate.as_ref().map(|by| by.name());
    let means = Means {
        device,
        facts: options.facts,
        populate: populate.as_mut().map(|by| by.as_mut() as _),
        space: space.as_ref(),
    };
    let steps = sizes.len() * options.placements.len();
    let total = u64::from(options.rounds) * steps as u64;
    let count = options.placements.iter().map(|&own| name(own));
    let count = count.collect::<BTreeSet<_>>().len();
    let shares = options
        .placements
        .iter()
        .map(|&own| (name(own), Share::of(options.deadline, count)));
    let mut rounds = Rounds {
        number,
        options,
        means,
        shares: shares.collect(),
        progress: Progress { done: 0, total },
        watch,
        series: Vec::new(),
    };
    let ran = rounds.all(&sizes);
    let series = rounds.series;
    match ran {
        Err(error) if error.kind() != ErrorKind::Stopped => return Err(error),
        _ => {}
    }
    Ok(Measured {
        bar: number,
        size: whole,
        populated_by,
        unpopulated,
        series,
    })
}

struct Rounds<'a, 'w> {
    number: u32,
    options: &'a Options<'a>,
    means: Means<'a>,
    /// What each placement may still take.
    shares: BTreeMap<&'static str, Share>,
    progress: Progress,
    watch: Watch<'w>,
    series: Vec<Series>,
}

impl Rounds<'_, '_> {
    fn all(&mut self, sizes: &[u64]) -> Result<()> {
        let placements = &self.options.placements;
        for &size in sizes {
            let of = |&placement| Series {
                placement,
                size,
                samples: Vec::new(),
                left_out: Some(LeftOut::Stopped),
            };
            self.series.extend(placements.iter().map(of));
        }
        let smallest = sizes.first().map_or(WARM_UP, |size| WARM_UP.min(*size));
        for &placement in placements {
            // It is not measured, whatever comes of it.
            let _ = self.one(placement, smallest)?;
        }
        // A machine that is slower for some minutes then is so for all of them.
        for round in 0..self.options.rounds as usize {
            for first in (0..self.series.len()).step_by(placements.len().max(1)) {
                for turn in 0..placements.len() {
                    self.turn(first + (round + turn) % placements.len())?;
                }
            }
        }
        Ok(())
    }

    /// Measures a placement and a size once, unless they are left out.
    fn turn(&mut self, index: usize) -> Result<()> {
        let Series {
            placement,
            size,
            left_out,
            ..
        } = self.series[index];
        if !matches!(left_out, Some(LeftOut::Limit | LeftOut::Budget)) {
            let measured = self.one(placement, size)?;
            let series = &mut self.series[index];
            match measured {
                Ok(sample) => {
                    series.samples.push(sample);
                    if series.samples.len() == self.options.rounds as usize {
                        series.left_out = None;
                    }
                }
                Err(why) => series.left_out = Some(why),
            }
        }
        self.progress.done += 1;
        Ok(())
    }

    /// Measures one mapping, or says why not.
    fn one(&mut self, placement: Placement, size: u64) -> Result<Result<Sample, LeftOut>> {
        let what = What {
            bar: self.number,
            placement,
            hint: self.options.hint,
            size,
            holes: &self.options.holes,
        };
        let begin = Instant::now();
        let tables = sample::page_tables();
        let (bar, time) = what.map(self.means.device)?;
        let sizes = sample::sizes(&bar, self.options.facts);
        let expected = bar.expected(&sizes);
        let base = sizes.base();
        let pages = expected.count(base).saturating_mul(base);
        if self.options.limit.is_some_and(|limit| pages > limit) {
            return Ok(Err(LeftOut::Limit));
        }
        let share = self.shares.entry(name(placement)).or_default();
        if !share.has_room(expected.total(), size) {
            return Ok(Err(LeftOut::Budget));
        }
        let (watch, progress) = (&mut self.watch, self.progress);
        let mut go_on = || -> ControlFlow<()> { watch(progress) };
        let sample = sample::measure(&what, &mut self.means, (bar, time, tables), &mut go_on)?;
        share.spend(begin.elapsed(), sample.cost(size));
        Ok(Ok(sample))
    }
}

fn name(placement: Placement) -> &'static str {
    match placement {
        Placement::Congruent => "congruent",
        Placement::SizeAligned => "size-aligned",
        Placement::Plain => "plain",
    }
}
