//! Several devices: one after another, and one thread for each.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use hugebar::bar::Bar;
use hugebar::facts::Facts;
use hugebar::plan::Placement;
use hugebar::populate::{Populate, present};
use hugebar::vfio::Device;
use hugebar::{Error, ErrorKind, Result};

use super::sample::{self, What};
use super::steady::Steady;
use super::{Options, Progress, Spread, Watch, decode, timed};
use crate::populate;

/// What it takes to make a BAR of each of several devices present.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Together {
    /// The number of devices.
    pub devices: u64,
    /// Bytes of all BARs.
    pub bytes: u64,
    /// Leaves of all BARs, as their addresses give; each cost a fault.
    pub leaves: u64,
    /// Whether there were as many faults in each round.
    pub counted: bool,
    /// By one thread, in nanoseconds.
    pub one_after_another: Spread,
    /// By a thread for each device, from the first one's begin to the last one's end, in nanoseconds.
    pub one_thread_each: Spread,
}

/// Maps a BAR of each device congruently, the whole of it, and makes all of them present: by one thread, and after memory
/// decode was off by a thread for each. The BARs stay mapped between the rounds. `None` if a device cannot be populated, or
/// the benchmark was stopped before its first round.
///
/// # Errors
///
/// Those of mapping and populating.
pub fn together(
    bars: &[(&Device, u32)],
    options: &Options<'_>,
    watch: Watch<'_>,
) -> Result<Option<Together>> {
    let mut all = Vec::new();
    for &(device, number) in bars {
        let what = What {
            bar: number,
            placement: Placement::Congruent,
            hint: options.hint,
            size: u64::MAX,
            holes: &options.holes,
        };
        let Ok(populate) = populate::for_device(device) else {
            return Ok(None);
        };
        let (bar, _) = what.map(device)?;
        all.push(Own {
            device,
            bar,
            populate,
        });
    }
    let expected = all.iter().map(|own| own.expected(options.facts));
    let leaves = expected.fold(0, u64::saturating_add);
    let (mut single, mut threads, mut counted) = (Vec::new(), Vec::new(), true);
    let total = u64::from(options.rounds);
    // The first round warms up.
    for round in 0..=options.rounds {
        let progress = Progress {
            done: u64::from(round.saturating_sub(1)),
            total,
        };
        let late = options.deadline.is_some_and(|end| Instant::now() >= end);
        if late || watch(progress).is_break() {
            break;
        }
        let mut go_on = || watch(progress);
        let (faults, time) = timed(|| -> Result<u64> {
            let mut faults = 0_u64;
            for own in &mut all {
                let mut steady = Steady::new(own.populate.as_mut(), &mut go_on);
                let sizes = sample::sizes(&own.bar, options.facts);
                let installed = present(&own.bar, &sizes, &mut steady)?;
                faults = faults.saturating_add(installed.faults);
            }
            Ok(faults)
        });
        let faults = match faults {
            Err(error) if error.kind() == ErrorKind::Stopped => break,
            faults => faults?,
        };
        if !zap(&all)? {
            return Ok(None);
        }
        let each = in_threads(&all, options.facts)?;
        if !zap(&all)? {
            return Ok(None);
        }
        if round > 0 {
            // Faults of other causes, such as NUMA balancing, can only add to them.
            counted &= faults >= leaves;
            single.push(nanoseconds(time));
            threads.push(nanoseconds(each));
        }
    }
    let spreads = Spread::of(single).zip(Spread::of(threads));
    Ok(
        spreads.map(|(one_after_another, one_thread_each)| Together {
            devices: all.len() as u64,
            bytes: all
                .iter()
                .map(|own| own.bar.region().size())
                .fold(0, u64::saturating_add),
            leaves,
            counted,
            one_after_another,
            one_thread_each,
        }),
    )
}

/// A device with its mapped BAR.
struct Own<'a> {
    device: &'a Device,
    bar: Bar,
    populate: Box<dyn Populate>,
}

impl Own<'_> {
    fn expected(&self, facts: &Facts) -> u64 {
        self.bar.expected(&sample::sizes(&self.bar, facts)).total()
    }
}

/// Removes the leaves of all.
fn zap(all: &[Own<'_>]) -> Result<bool> {
    let mut gone = true;
    for own in all {
        gone &= decode::off_and_on(own.device)?;
    }
    Ok(gone)
}

/// Makes each BAR present in a thread of its own, all at once.
fn in_threads(all: &[Own<'_>], facts: &Facts) -> Result<Duration> {
    let start = Barrier::new(all.len());
    let one = |device: &Device, bar: &Bar| -> Result<(Instant, Instant)> {
        let populate = populate::for_device(device);
        let sizes = sample::sizes(bar, facts);
        // Before anything can return: the others wait for this one.
        start.wait();
        let begin = Instant::now();
        let mut populate =
            populate.map_err(|reason| Error::new(ErrorKind::Unsupported, reason.fact))?;
        present(bar, &sizes, populate.as_mut())?;
        Ok((begin, Instant::now()))
    };
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for own in all {
            let (device, bar, one) = (own.device, &own.bar, &one);
            threads.push(scope.spawn(move || one(device, bar)));
        }
        let (mut first, mut last): (Option<Instant>, Option<Instant>) = (None, None);
        for thread in threads {
            let panicked = |_| Error::new(ErrorKind::System, "a thread of the benchmark panicked");
            let (begin, end) = thread.join().map_err(panicked)??;
            first = Some(first.map_or(begin, |first| first.min(begin)));
            last = Some(last.map_or(end, |last| last.max(end)));
        }
        let times = last.zip(first);
        Ok(times.map_or(Duration::ZERO, |(last, first)| last.duration_since(first)))
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
