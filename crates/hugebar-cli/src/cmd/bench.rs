//! `hugebar bench`: what mapping a BAR costs with each placement.

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use hugebar::facts::Facts;
use hugebar::leaf::MIB;
use hugebar::pci;
use hugebar::vfio::{Device, Region};
use hugebar_host::bench::{self, Options, Progress};

use super::map;
use crate::args::BenchArgs;
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, Bar, BenchReport};
use crate::signals::StopSignal;

/// Runs the command.
pub(crate) fn run(args: &BenchArgs) -> Result<Answer, Failure> {
    let facts = Facts::observe();
    let functions = args.devices.iter().map(|device| pci::locate(device));
    let functions = functions.collect::<Result<Vec<_>, _>>()?;
    if args.sizes.contains(&0) {
        return Err(Failure::Usage("a size of 0 has nothing to map".to_owned()));
    }
    let [svg, html] = [&args.svg, &args.html].map(|file| file.as_deref().map(Page::create));
    let (svg, html) = (svg.transpose()?, html.transpose()?);
    let stop = StopSignal::catch().map_err(Failure::Signals)?;
    // All of them first: the others are not measured if one cannot be opened.
    let mut devices = Vec::new();
    for function in &functions {
        let device = map::open(function.address(), args.backend)?;
        let (bar, size) = chosen(&device, args.bar)?;
        // What cannot be left out is said before anything is measured.
        let whole = device.bar(bar)?;
        let holes = args.excluded.iter().copied();
        holes.fold(whole, |bar, hole| bar.exclude(hole)).plan()?;
        devices.push((function.address(), device, bar, size));
    }
    let budget = Duration::from_secs(args.budget);
    let mut options = Options {
        facts: &facts,
        placements: args.placement.iter().map(|&own| own.into()).collect(),
        hint: args.hint.into(),
        sizes: Vec::new(),
        holes: args.excluded.clone(),
        rounds: args.rounds,
        deadline: Instant::now().checked_add(budget),
        limit: args.limit.0,
        present: !args.no_present,
        dma: !args.no_dma,
    };
    let mut report = BenchReport::new(&options, args.budget);
    for (address, device, bar, size) in &devices {
        options.sizes = match args.sizes.as_slice() {
            [] => some_up_to(*size),
            sizes => sorted(sizes),
        };
        let name = format!("{address} BAR {bar}");
        render::step(format_args!("measuring {name}"));
        let shown = Bar::of_mappings(&name);
        let mut watch = |progress: Progress| watched(&shown, &stop, progress);
        let measured = bench::bar(device, *bar, &options, &mut watch);
        report.add(*address, device.backend(), &measured?);
        if stop.came() {
            break;
        }
    }
    if devices.len() > 1 && options.present && !stop.came() {
        let bars: Vec<_> = devices
            .iter()
            .map(|(_, device, bar, _)| (device, *bar))
            .collect();
        render::step("measuring all devices together");
        let shown = Bar::of_mappings("all devices");
        let mut watch = |progress: Progress| watched(&shown, &stop, progress);
        report.set_together(bench::together(&bars, &options, &mut watch)?);
    }
    report.set_stopped(stop.came());
    if let Some(page) = svg {
        page.write(&report.svg().map_err(Failure::Output)?)?;
    }
    if let Some(page) = html {
        page.write(&report.html().map_err(Failure::Output)?)?;
    }
    match args.csv {
        true => render::deliver_raw(&report.csv().map_err(Failure::Output)?),
        false => render::deliver(&report, args.json),
    }
    .map_err(Failure::Output)?;
    if stop.came() {
        render::warn("stopped by a signal: the rest was not measured");
        return Ok(Answer::Failed);
    }
    Ok(Answer::Yes)
}

fn watched(shown: &Bar, stop: &StopSignal, progress: Progress) -> ControlFlow<()> {
    shown.show(progress.done, progress.total);
    match stop.came() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// The requested BAR, or the largest that can be mapped, with its size.
fn chosen(device: &Device, wanted: Option<u32>) -> Result<(u32, u64), Failure> {
    if let Some(bar) = wanted {
        return Ok((bar, device.bar(bar)?.region().size()));
    }
    let mut failed = None;
    let regions = device.regions().into_iter();
    // One that cannot be asked about hides no other.
    let known = regions.filter_map(|region| region.map_err(|error| failed = Some(error)).ok());
    let bars = known.filter(|region| region.index() < 6);
    let mappable = bars.filter(Region::is_mappable);
    let largest = mappable.max_by_key(Region::size);
    match (largest, failed) {
        (Some(region), _) => Ok((region.index(), region.size())),
        (None, Some(error)) => Err(error.into()),
        (None, None) => Err(Failure::Usage(
            "the device has no BAR that can be mapped".to_owned(),
        )),
    }
}

/// From 16 MiB on four times as much each, up to all of it.
fn some_up_to(whole: u64) -> Vec<u64> {
    let sizes = std::iter::successors(Some(16 * MIB), |size| size.checked_mul(4));
    let mut sizes: Vec<_> = sizes.take_while(|size| *size < whole).collect();
    sizes.push(whole);
    sizes
}

fn sorted(sizes: &[u64]) -> Vec<u64> {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// A file for a picture or a page, which has to be writable before anything is measured. What it has stays until then.
struct Page<'a>(&'a Path, File);

impl<'a> Page<'a> {
    fn create(path: &'a Path) -> Result<Self, Failure> {
        let failed = |error| Failure::File(path.to_owned(), error);
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).open(path);
        Ok(Self(path, file.map_err(failed)?))
    }

    fn write(mut self, text: &str) -> Result<(), Failure> {
        let failed = |error| Failure::File(self.0.to_owned(), error);
        let mut replace = || {
            // Pipes and terminals have nothing to cut off.
            if self.1.metadata()?.is_file() {
                self.1.set_len(0)?;
            }
            self.1.write_all(text.as_bytes())
        };
        replace().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hugebar::leaf::GIB;

    #[test]
    fn the_whole_is_always_measured() {
        assert_eq!(some_up_to(4096), [4096]);
        assert_eq!(some_up_to(GIB), [16 * MIB, 64 * MIB, 256 * MIB, GIB]);
        assert_eq!(some_up_to(GIB + 4096).last(), Some(&(GIB + 4096)));
        assert_eq!(sorted(&[GIB, MIB, GIB]), [MIB, GIB]);
    }
}
