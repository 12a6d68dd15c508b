//! `hugebar map`: maps BARs, counts their leaves, unmaps them.

use std::ops::ControlFlow;

use hugebar::Error;
use hugebar::bar::{Bar, UnmappedBar};
use hugebar::census::Progress;
use hugebar::facts::Facts;
use hugebar::leaf::Bytes;
use hugebar::pci::{self, Address};
use hugebar::vfio::{self, Device, Region};
use hugebar_host::measure::{Measured, Measuring};

use super::require;
use crate::args::{Backend, MapArgs};
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, MapReport};
use crate::signals::StopSignal;

/// Runs the command.
pub(crate) fn run(args: &MapArgs) -> Result<Answer, Failure> {
    let facts = Facts::observe();
    require::check(args.require, &facts.leaf_sizes)?;
    let function = pci::locate(&args.device)?;
    let address = function.address();
    let stop = StopSignal::catch().map_err(Failure::Signals)?;
    let device = open(address, args.backend)?;
    if let Some(backend) = device.backend() {
        render::step(format_args!("{address}: opened by {backend}"));
    }
    let bars = chosen(&device, address, args)?;

    let mut measuring = Measuring::new(&device, &function, &facts)
        .limit(args.limit.0)
        .witness(args.witness);
    let mut report = MapReport::new(address, device.backend(), &facts);
    let (mut held, mut all, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for &number in &bars {
        let failure = match map(&device, number, args, &mut measuring, &stop) {
            Ok((bar, measured)) => {
                report.add(&bar, &measured);
                // Without --hold a BAR is unmapped before the next one is mapped.
                held.extend(args.hold.then_some(bar));
                let contradicted = contradicted(number, &measured);
                all.push((number, measured));
                contradicted
            }
            Err(failure) => Some(failure),
        };
        match failure {
            // There are no other BARs to report.
            Some(failure) if bars.len() == 1 || failure.ends_all() => {
                tell(&failures);
                return Err(failure);
            }
            Some(failure) => {
                report.fail(number, &failure);
                failures.push((number, failure));
            }
            None => (),
        }
    }
    render::deliver(&report, args.json).map_err(Failure::Output)?;
    tell(&failures);
    if !held.is_empty() {
        stop.wait();
    }
    let whole = failures.is_empty();
    let missed = args
        .require
        .map(|required| require::missed(&all, required, whole, &facts.leaf_sizes));
    let missed = missed.unwrap_or_default();
    if !args.json {
        missed.iter().for_each(render::warn);
    }
    Ok(match whole {
        true => Answer::of(missed.is_empty()),
        false => Answer::Failed,
    })
}

fn tell(failures: &[(u32, Failure)]) {
    for (bar, failure) in failures {
        render::tell_failure_of(*bar, failure);
    }
}

/// The failure if the page tables disagree with the count.
fn contradicted(number: u32, measured: &Measured) -> Option<Failure> {
    let (counted, seen) = measured.contradiction()?;
    Some(Failure::Witness(format!(
        "BAR {number}: counted {counted}, but the page tables have {seen}; please report this"
    )))
}

/// The numbers of the requested BARs, or of all that can be mapped.
fn chosen(device: &Device, address: Address, args: &MapArgs) -> Result<Vec<u32>, Failure> {
    let mut bars = args.bars.clone();
    if bars.is_empty() {
        // A BAR that cannot be queried is kept, so that mapping it reports the error.
        let is_there = |index: &u32| match device.region(*index) {
            Ok(region) => region.as_ref().is_some_and(Region::is_mappable),
            Err(_) => true,
        };
        bars.extend((0..6).filter(is_there));
    }
    bars.sort_unstable();
    bars.dedup();
    match bars.as_slice() {
        [] => Err(Failure::Usage(format!(
            "{address}: the device has no BAR that can be mapped"
        ))),
        [_, _, ..] if !args.excluded.is_empty() => {
            let bars: Vec<_> = bars.iter().map(u32::to_string).collect();
            let bars = bars.join(", ");
            let message = format!("--exclude applies to one BAR: add --bar (one of {bars})");
            Err(Failure::Usage(message))
        }
        _ => Ok(bars),
    }
}

pub(super) fn open(address: Address, backend: Backend) -> Result<Device, Failure> {
    Ok(match backend {
        Backend::Auto => Device::open(address)?,
        Backend::Type1 => Device::open_by(address, vfio::Backend::Type1)?,
        Backend::Iommufd => Device::open_by(address, vfio::Backend::Iommufd)?,
        Backend::Noiommu => {
            let device = open_without_iommu(address)?;
            render::warn(format_args!(
                "{address}: without an IOMMU this device can read and write all memory"
            ));
            device
        }
    })
}

/// Opens the device without an IOMMU, for which only the user can take responsibility.
#[allow(unsafe_code, reason = "the user has asked for it by name")]
fn open_without_iommu(address: Address) -> Result<Device, Error> {
    // SAFETY: the command writes to no register of the device and starts no DMA, and opening
    // the device has reset it.
    unsafe { Device::open_without_iommu(address) }
}

/// Maps a BAR as the arguments say, and measures it.
fn map(
    device: &Device,
    number: u32,
    args: &MapArgs,
    measuring: &mut Measuring<'_>,
    stop: &StopSignal,
) -> Result<(Bar, Measured), Failure> {
    let mut bar = device
        .bar(number)?
        .placement(args.placement.into())
        .hint(args.hint.into());
    for &hole in &args.excluded {
        bar = bar.exclude(hole);
    }
    let bar = bar.reserve()?;
    tell_reserved(number, &bar)?;
    let bar = bar.map()?;
    let by = measuring.populated_by().unwrap_or("nothing");
    render::step(format_args!("BAR {number}: mapped, populating by {by}"));
    let shown = render::Bar::of_bytes(&format!("BAR {number}"));
    let mut watch = |progress: Progress| {
        shown.show(progress.done, progress.total);
        if stop.came() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let measured = measuring.measure(&bar, &mut watch);
    Ok((bar, measured.map_err(Failure::of_measuring)?))
}

fn tell_reserved(number: u32, bar: &UnmappedBar<'_>) -> Result<(), Error> {
    let Some(window) = bar.window() else {
        return Ok(());
    };
    for (shape, (start, len)) in bar.plan()?.shapes().iter().zip(window.blocks()) {
        render::step(format_args!(
            "BAR {number}: reserved {} at {start:p}, {:#x} modulo {}",
            Bytes(len as u64),
            shape.residue(),
            Bytes(window.alignment())
        ));
    }
    Ok(())
}
