//! `hugebar map`: maps BARs, counts their leaves, unmaps them.

use std::ops::ControlFlow;

use hugebar::census::{Census, CensusOptions, Progress, census};
use hugebar::facts::Facts;
use hugebar::leaf::Bytes;
use hugebar::mem::{MapOptions, Mapping, Window};
use hugebar::pci::{self, Address};
use hugebar::plan::{Placement, Plan};
use hugebar::populate::Populate;
use hugebar::reason::{self, Code, Evidence, Reason};
use hugebar::verdict::{Verdict, reaches};
use hugebar::vfio::{self, Device, Region};
use hugebar::{Error, ErrorKind};
use hugebar_host::{page_tables, populate};

use super::require;
use crate::args::{Backend, MapArgs, Requirement};
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, Bar, MapReport, RegionReport};
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
    let regions = chosen(&device, address, args)?;

    let mut job = Job {
        args,
        address,
        facts: &facts,
        populate: populate::for_device(&device),
        device,
        driver: function.driver()?,
        stop: &stop,
    };
    let mut report = MapReport::new(address, job.device.backend(), &facts);
    let mut held = Vec::new();
    for region in &regions {
        let (mapping, region) = job.map(region)?;
        report.regions.push(region);
        // Without --hold a BAR is unmapped before the next one is mapped.
        held.extend(args.hold.then_some(mapping));
    }
    render::deliver(&report, args.json).map_err(Failure::Output)?;
    if args.hold {
        stop.wait();
    }
    let Some(required) = args.require else {
        return Ok(Answer::Yes);
    };
    let missed = missed(&report, required);
    if !args.json {
        for message in &missed {
            render::warn(message);
        }
    }
    Ok(Answer::of(missed.is_empty()))
}

/// The BARs that were asked for, or all that can be mapped.
fn chosen(device: &Device, address: Address, args: &MapArgs) -> Result<Vec<Region>, Failure> {
    let mut regions = Vec::new();
    if args.bars.is_empty() {
        for index in 0..6 {
            regions.extend(device.region(index)?.filter(Region::is_mappable));
        }
    }
    let mut bars = args.bars.clone();
    bars.sort_unstable();
    bars.dedup();
    for &index in &bars {
        regions.push(device.bar(index)?.region().clone());
    }
    match regions.as_slice() {
        [] => Err(Failure::Usage(format!(
            "{address}: the device has no BAR that can be mapped"
        ))),
        [_, _, ..] if !args.excluded.is_empty() => {
            let bars: Vec<_> = regions.iter().map(|r| r.index().to_string()).collect();
            let bars = bars.join(", ");
            let message = format!("--exclude is for one BAR: add --bar (there are {bars})");
            Err(Failure::Usage(message))
        }
        _ => Ok(regions),
    }
}

fn open(address: Address, backend: Backend) -> Result<Device, Failure> {
    Ok(match backend {
        Backend::Auto => Device::open(address)?,
        Backend::Type1 => Device::open_by(address, vfio::Backend::Type1)?,
        Backend::Iommufd => Device::open_by(address, vfio::Backend::Iommufd)?,
        Backend::Noiommu => {
            let device = open_without_iommu(address)?;
            render::warn(format_args!(
                "{address}: without an IOMMU this device can read and write all of memory"
            ));
            device
        }
    })
}

/// The one thing that the command does and that nothing but its user can answer for.
#[allow(unsafe_code, reason = "the user has asked for it by name")]
fn open_without_iommu(address: Address) -> Result<Device, Error> {
    // SAFETY: the command writes to no register of the device and gives it nothing to do, and opening
    // it has reset it.
    unsafe { Device::open_without_iommu(address) }
}

/// What all BARs are mapped with.
struct Job<'a> {
    args: &'a MapArgs,
    address: Address,
    facts: &'a Facts,
    populate: Result<Box<dyn Populate>, Reason>,
    device: Device,
    driver: Option<String>,
    stop: &'a StopSignal,
}

impl Job<'_> {
    fn map(&mut self, region: &Region) -> Result<(Mapping, RegionReport), Failure> {
        let bar = region.index();
        let address = self.address;
        let subject = |error: Error| error.on(format!("{address} BAR {bar}"));
        let plan = self.plan(region).map_err(subject)?;
        let options = MapOptions {
            hint: self.args.hint.into(),
            ..region.map_options()
        };
        let window = Window::reserve(&plan).map_err(subject)?;
        for (shape, (start, len)) in plan.shapes().iter().zip(window.blocks()) {
            render::step(format_args!(
                "BAR {bar}: reserved {} at {start:p}, {:#x} modulo {}",
                Bytes(len as u64),
                shape.residue(),
                Bytes(window.alignment())
            ));
        }
        let mut mapping = self
            .place(region, &plan, window, options)
            .map_err(subject)?;
        let by = self.populate.as_ref().map_or("nothing", |by| by.name());
        render::step(format_args!("BAR {bar}: mapped, populating by {by}"));
        let mut counted = self.count(bar, &mapping);
        if matches!(&counted, Some(Err(error)) if error.kind() == ErrorKind::Miscounted) {
            // A fault of this thread's own came between, and will hardly do so again.
            render::step(format_args!("BAR {bar}: counting it anew"));
            let window = mapping.into_window().map_err(subject)?;
            mapping = self
                .place(region, &plan, window, options)
                .map_err(subject)?;
            counted = self.count(bar, &mapping);
        }
        let report = self.report(region, &mapping, counted)?;
        Ok((mapping, report))
    }

    fn place(
        &self,
        region: &Region,
        plan: &Plan,
        window: Window,
        options: MapOptions,
    ) -> Result<Mapping, Error> {
        Mapping::new(&self.device, region.offset(), plan, window, options)
    }

    fn plan(&self, region: &Region) -> Result<Plan, Error> {
        let mut layout = region.layout().clone();
        for &hole in &self.args.excluded {
            layout = layout.without(hole)?;
        }
        let phys = self.device.phys(region);
        let placement = Placement::from(self.args.placement);
        Ok(Plan::new(&layout, phys, &self.facts.leaf_sizes, placement)?)
    }

    /// `None` where nothing can populate it.
    fn count(&mut self, bar: u32, mapping: &Mapping) -> Option<Result<Census, Error>> {
        let populate = self.populate.as_mut().ok()?;
        let bar_of = Bar::new(&format!("BAR {bar}"));
        let mut watch = |progress: Progress| {
            bar_of.show(&progress);
            if self.stop.came() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let options = CensusOptions {
            limit: self.args.limit.0,
            progress: &mut watch,
        };
        Some(census(mapping, self.facts, populate.as_mut(), options))
    }

    fn report(
        &self,
        region: &Region,
        mapping: &Mapping,
        counted: Option<Result<Census, Error>>,
    ) -> Result<RegionReport, Failure> {
        let mut report = RegionReport::new(region.index(), region.size(), mapping, self.facts);
        let mut broken = false;
        match (counted, &self.populate) {
            (Some(Ok(census)), Ok(populate)) => {
                broken = census.broken;
                report.count(&census, populate.name());
            }
            (Some(Err(error)), _) if concerns_only_the_count(error.kind()) => {
                let decode = self.device.memory_decode().ok();
                report.reasons.push(reason::uncounted(&error, decode));
            }
            (Some(Err(error)), _) => return Err(error.into()),
            (_, Err(lacking)) => report.reasons.push(lacking.clone()),
            (None, Ok(_)) => (),
        }
        report.reasons.extend(reason::explain(&Evidence {
            facts: self.facts,
            mapping,
            measured: report.measured.as_ref(),
            broken,
            driver: self.driver.as_deref(),
        }));
        if report.is_cut_short() {
            report.reasons.push(self.limited(&report));
        }
        if self.args.witness {
            let seen = page_tables::leaves(mapping, &self.facts.leaf_sizes);
            let seen = seen.map_err(|error| {
                Failure::Witness(format!(
                    "{error}; --witness needs root, debugfs and a kernel with CONFIG_PTDUMP_DEBUGFS"
                ))
            })?;
            report.compare(seen).map_err(Failure::Witness)?;
        }
        Ok(report)
    }

    fn limited(&self, report: &RegionReport) -> Reason {
        let limit = Bytes(self.args.limit.0.unwrap_or(u64::MAX));
        let counted = report.measured.map_or(0, |leaves| leaves.bytes());
        let fact = format!(
            "{counted} bytes were counted: the rest would have taken more than {limit} in pages"
        );
        Reason::new(Code::Limit, fact, "raise --limit to count all of it")
    }
}

/// Failures that leave the mapping as good as it is: its leaves are not known, that is all.
fn concerns_only_the_count(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::AlreadyPopulated | ErrorKind::Miscounted | ErrorKind::NotMappableForDma
    )
}

/// What falls short of what is required. A size is asked of the BARs that have a block of it: devices
/// have small BARs as well.
fn missed(report: &MapReport, required: Requirement) -> Vec<String> {
    let concerned: Vec<_> = match required {
        Requirement::Optimal => report.regions.iter().collect(),
        Requirement::Size(size) => {
            let regions = report.regions.iter();
            regions
                .filter(|own| own.best.bytes_at_least(size) > 0)
                .collect()
        }
    };
    if concerned.is_empty() {
        return vec![format!("--require: no BAR has a block of {required}")];
    }
    let missing = concerned.into_iter().filter(|own| !meets(own, required));
    let told = missing.map(|own| format!("--require: BAR {} is not {required}", own.bar));
    told.collect()
}

fn meets(region: &RegionReport, required: Requirement) -> bool {
    match (required, &region.measured) {
        (Requirement::Optimal, _) => region.complete && region.verdict == Verdict::Optimal,
        (Requirement::Size(size), Some(measured)) => {
            region.complete && reaches(&region.best, measured, size)
        }
        (Requirement::Size(_), None) => false,
    }
}
