//! The data of the report, as JSON has them.

use serde::Serialize;

use hugebar::layout::Area;
use hugebar::leaf::Leaves;
use hugebar::pci::Address;
use hugebar::plan::Placement;
use hugebar::reason::Reason;
use hugebar::vfio::Backend;
use hugebar_host::bench::{
    self, LeftOut, Machine, Measured, Options, Sample, Series, Step, Together,
};

use crate::render::print::VERSION;

/// What was measured, and on which machine.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct BenchReport {
    version: u32,
    /// The kernel's version number.
    pub(super) kernel: String,
    /// `uname -r`.
    pub(super) release: String,
    /// The THP policy; null where THP is not built in.
    pub(super) thp: Option<String>,
    pub(super) machine: MachineReport,
    leaf_sizes: Vec<u64>,
    pub(super) rounds: u32,
    /// Seconds.
    pub(super) budget: u64,
    /// How many bytes of base pages a mapping may have; null for no limit.
    pub(super) limit: Option<u64>,
    /// What was left unmapped.
    #[cfg_attr(test, schemars(with = "Vec<crate::render::schema::Area>"))]
    pub(super) holes: Vec<Area>,
    /// Whether a signal ended it.
    pub(super) stopped: bool,
    pub(super) bars: Vec<BarReport>,
    /// All devices, one after another and with a thread for each; null for one device.
    pub(super) together: Option<TogetherReport>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct MachineReport {
    pub(super) architecture: &'static str,
    pub(super) processor: Option<String>,
    pub(super) threads: Option<usize>,
}

/// A BAR.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct BarReport {
    pub(super) device: String,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) backend: Option<Backend>,
    pub(super) bar: u32,
    pub(super) size: u64,
    /// How leaves were installed; null if nothing can.
    pub(super) populated_by: Option<&'static str>,
    /// Why nothing can.
    pub(super) unpopulated: Option<String>,
    pub(super) series: Vec<SeriesReport>,
}

/// A placement and a size.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct SeriesReport {
    #[cfg_attr(test, schemars(with = "crate::render::schema::Placement"))]
    pub(super) placement: Placement,
    /// The length of the prefix of the BAR.
    pub(super) size: u64,
    /// Why it was not measured, or less often than asked for.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) left_out: Option<LeftOut>,
    /// How many leaves; null where they were not counted.
    pub(super) leaves: Option<Spread>,
    /// What the page tables of the process grew by in bytes.
    pub(super) page_tables: Option<Spread>,
    /// Why the whole was not mapped for DMA.
    pub(super) no_dma: Option<String>,
    /// Nanoseconds.
    pub(super) times: Times<Spread>,
    /// One for each round.
    samples: Vec<SampleReport>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Spread {
    pub(super) median: u64,
    pub(super) min: u64,
    pub(super) max: u64,
}

/// What each step took; null where it was not done.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Times<T> {
    map: Option<T>,
    present: Option<T>,
    present_again: Option<T>,
    dma_map: Option<T>,
    dma_unmap: Option<T>,
    unmap: Option<T>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SampleReport {
    address: String,
    /// The leaves that these addresses give on this kernel.
    #[cfg_attr(test, schemars(with = "crate::render::schema::Counts"))]
    expected: Leaves,
    /// Whether the kernel installed just these.
    counted: bool,
    faults: Option<u64>,
    page_tables: Option<u64>,
    /// Nanoseconds.
    times: Times<u64>,
}

/// All devices at once, each BAR whole and congruent.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct TogetherReport {
    pub(super) devices: u64,
    pub(super) bytes: u64,
    pub(super) leaves: u64,
    /// Whether there were as many faults.
    pub(super) counted: bool,
    /// By one thread, in nanoseconds.
    pub(super) one_after_another: Spread,
    /// By a thread for each, in nanoseconds.
    pub(super) one_thread_each: Spread,
}

impl BenchReport {
    pub(crate) fn new(options: &Options<'_>, budget: u64) -> Self {
        let facts = options.facts;
        let kernel = facts.kernel.map(|kernel| kernel.to_string());
        let machine = Machine::observe();
        Self {
            version: VERSION,
            kernel: kernel.unwrap_or_else(|| facts.release.clone()),
            release: facts.release.clone(),
            thp: facts.thp.map(|policy| policy.to_string()),
            machine: MachineReport {
                architecture: machine.architecture,
                processor: machine.processor,
                threads: machine.threads,
            },
            leaf_sizes: facts.leaf_sizes.as_slice().to_vec(),
            rounds: options.rounds,
            budget,
            limit: options.limit,
            holes: options.holes.clone(),
            stopped: false,
            bars: Vec::new(),
            together: None,
        }
    }

    /// Adds a measured BAR.
    pub(crate) fn add(&mut self, device: Address, backend: Option<Backend>, measured: &Measured) {
        let why = |reason: &Reason| reason.fact.clone();
        self.bars.push(BarReport {
            device: device.to_string(),
            backend,
            bar: measured.bar,
            size: measured.size,
            populated_by: measured.populated_by,
            unpopulated: measured.unpopulated.as_ref().map(why),
            series: measured.series.iter().map(SeriesReport::of).collect(),
        });
    }

    /// Sets what all devices took at once.
    pub(crate) fn set_together(&mut self, together: Option<Together>) {
        self.together = together.map(|own| TogetherReport {
            devices: own.devices,
            bytes: own.bytes,
            leaves: own.leaves,
            counted: own.counted,
            one_after_another: own.one_after_another.into(),
            one_thread_each: own.one_thread_each.into(),
        });
    }

    /// Sets whether a signal ended it.
    pub(crate) fn set_stopped(&mut self, stopped: bool) {
        self.stopped = stopped;
    }
}

impl SeriesReport {
    fn of(own: &Series) -> Self {
        Self {
            placement: own.placement,
            size: own.size,
            left_out: own.left_out,
            leaves: own.leaves().map(Into::into),
            page_tables: own.page_tables().map(Into::into),
            no_dma: own.samples.iter().find_map(|sample| sample.no_dma.clone()),
            times: Times::of(|step| own.time(step).map(Into::into)),
            samples: own.samples.iter().map(SampleReport::of).collect(),
        }
    }

    /// How often it was measured.
    pub(super) fn rounds(&self) -> usize {
        self.samples.len()
    }
}

impl SampleReport {
    fn of(own: &Sample) -> Self {
        let time = |step| {
            own.time(step)
                .map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        Self {
            address: format!("{:#x}", own.address),
            expected: own.expected,
            counted: own.counted,
            faults: own.faults,
            page_tables: own.page_tables,
            times: Times::of(time),
        }
    }
}

impl<T: Copy> Times<T> {
    fn of(time: impl Fn(Step) -> Option<T>) -> Self {
        Self {
            map: time(Step::Map),
            present: time(Step::Present),
            present_again: time(Step::PresentAgain),
            dma_map: time(Step::DmaMap),
            dma_unmap: time(Step::DmaUnmap),
            unmap: time(Step::Unmap),
        }
    }

    pub(super) fn get(&self, step: Step) -> Option<T> {
        match step {
            Step::Map => self.map,
            Step::Present => self.present,
            Step::PresentAgain => self.present_again,
            Step::DmaMap => self.dma_map,
            Step::DmaUnmap => self.dma_unmap,
            Step::Unmap => self.unmap,
        }
    }
}

impl From<bench::Spread> for Spread {
    fn from(own: bench::Spread) -> Self {
        Self {
            median: own.median,
            min: own.min,
            max: own.max,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use hugebar::leaf::{GIB, LeafSizes, MIB};

    fn series(
        placement: Placement,
        size: u64,
        leaf: u64,
        left_out: Option<LeftOut>,
    ) -> SeriesReport {
        let spread = |number| {
            left_out.is_none().then_some(Spread {
                median: number,
                min: number,
                max: number,
            })
        };
        let count = size / leaf;
        let mut expected = Leaves::none(&LeafSizes::X86_64);
        expected.add(leaf, count);
        let sample = SampleReport {
            address: "0x7f0000000000".to_owned(),
            expected,
            counted: true,
            faults: Some(count),
            page_tables: Some(count * 8),
            times: Times::of(|_| Some(count * 1000)),
        };
        SeriesReport {
            placement,
            size,
            left_out,
            leaves: spread(count),
            page_tables: spread(count * 8),
            no_dma: None,
            times: Times::of(|_| spread(count * 1000)),
            samples: left_out.is_none().then_some(sample).into_iter().collect(),
        }
    }

    /// Two sizes of a BAR, one of them left out once.
    pub(in crate::render::bench) fn example() -> BenchReport {
        let machine = MachineReport {
            architecture: "x86_64",
            processor: Some("a processor".to_owned()),
            threads: Some(2),
        };
        let bar = BarReport {
            device: "0000:01:00.0".to_owned(),
            backend: Some(Backend::Type1),
            bar: 2,
            size: GIB,
            populated_by: Some("type1"),
            unpopulated: None,
            series: vec![
                series(Placement::Plain, 256 * MIB, 4096, None),
                series(Placement::SizeAligned, GIB, 4096, Some(LeftOut::Limit)),
                series(Placement::Congruent, GIB, 2 * MIB, None),
            ],
        };
        BenchReport {
            version: VERSION,
            kernel: "7.3".to_owned(),
            release: "<7.3>".to_owned(),
            thp: None,
            machine,
            leaf_sizes: LeafSizes::X86_64.as_slice().to_vec(),
            rounds: 1,
            budget: 60,
            limit: Some(4 * GIB),
            holes: vec![Area::new(0x6000, 0x1000)],
            stopped: false,
            bars: vec![bar],
            together: None,
        }
    }

    #[test]
    fn a_document_is_as_its_schema_says() {
        let mut report = example();
        let one = Spread {
            median: 1,
            min: 1,
            max: 1,
        };
        report.together = Some(TogetherReport {
            devices: 2,
            bytes: 2 * GIB,
            leaves: 2,
            counted: true,
            one_after_another: one,
            one_thread_each: one,
        });
        let document = serde_json::to_value(&report).unwrap();
        crate::render::schema::check("bench", &document);
    }
}
