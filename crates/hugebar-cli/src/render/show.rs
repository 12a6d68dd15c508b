//! The report of `hugebar show`.

use serde::Serialize;

use hugebar::facts::Facts;
use hugebar::leaf::Leaves;
use hugebar::pci::{DirectRegion, Msix};
use hugebar::plan::Placement;
use hugebar_host::devices::Described;
use hugebar_host::doctor::Step;
use hugebar_host::show::{Growth, Iommu, Known, Neighbour, Shown, ShownBar};

use super::device::{BarReport, DeviceReport};
use super::print::VERSION;
use super::table;

/// A device in detail.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ShowReport<'a> {
    version: u32,
    /// `uname -r`.
    pub(super) release: &'a str,
    #[serde(flatten)]
    pub(super) device: DeviceReport<'a>,
    /// The other members of its IOMMU group.
    pub(super) members: Vec<MemberReport<'a>>,
    /// Null if it has none, or that is unknown.
    pub(super) msix: Option<MsixReport>,
    pub(super) iommu: Option<IommuReport<'a>>,
    /// How many address bits a guest needs for its largest BAR.
    pub(super) guest_bits: Option<u32>,
    /// Ranges that firmware wants mapped one to one; null if unknown.
    pub(super) reserved: Option<Vec<String>>,
    pub(super) bars: Vec<ShownBarReport<'a>>,
    /// Steps of the doctor that are not ok.
    #[cfg_attr(test, schemars(with = "Vec<super::schema::Step>"))]
    pub(super) steps: &'a [Step],
    /// What is unknown, and why: `<needs root>`, or the error.
    pub(super) unknown: Vec<UnknownReport>,
    #[serde(skip)]
    pub(super) width: Option<u16>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct MemberReport<'a> {
    pub(super) device: String,
    pub(super) driver: Option<&'a str>,
    pub(super) class: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct MsixReport {
    pub(super) vectors: u16,
    pub(super) table: Place,
    pub(super) pba: Place,
}

/// A part of a BAR.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Place {
    pub(super) bar: u8,
    pub(super) offset: u64,
    pub(super) size: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct IommuReport<'a> {
    pub(super) name: &'a str,
    pub(super) bits: Option<u32>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct UnknownReport {
    /// `msix`, `reserved` or `sizes`.
    pub(super) what: &'static str,
    pub(super) why: String,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ShownBarReport<'a> {
    #[serde(flatten)]
    pub(super) bar: BarReport,
    pub(super) held_by: Option<&'a str>,
    /// Null if unknown, empty if it cannot be resized.
    pub(super) sizes: Option<&'a [u64]>,
    pub(super) growth: Option<GrowthReport<'a>>,
    pub(super) placements: Vec<CostReport>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct GrowthReport<'a> {
    #[serde(skip)]
    pub(super) fact: String,
    /// With what else lies in the window.
    #[serde(skip)]
    pub(super) whole: String,
    pub(super) bridge: String,
    pub(super) window: u64,
    pub(super) others: Vec<OtherReport>,
    pub(super) remedy: &'a str,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct OtherReport {
    pub(super) device: String,
    pub(super) bar: usize,
    pub(super) size: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct CostReport {
    #[cfg_attr(test, schemars(with = "super::schema::Placement"))]
    pub(super) placement: Placement,
    #[cfg_attr(test, schemars(with = "super::schema::Counts"))]
    pub(super) best: Leaves,
    #[cfg_attr(test, schemars(with = "super::schema::Counts"))]
    pub(super) worst: Leaves,
}

impl<'a> ShowReport<'a> {
    pub(crate) fn new(shown: &'a Shown, facts: &'a Facts, steps: &'a [Step]) -> Self {
        let mut unknown = Vec::new();
        unknown.extend(why("msix", &shown.msix));
        unknown.extend(why("reserved", &shown.reserved));
        // The reason is the same for all BARs.
        unknown.extend(shown.bars.iter().find_map(|bar| why("sizes", &bar.sizes)));
        let ranges = |all: &Vec<DirectRegion>| all.iter().map(DirectRegion::to_string).collect();
        Self {
            version: VERSION,
            release: &facts.release,
            device: DeviceReport::of(&shown.described),
            members: shown.members.iter().map(MemberReport::of).collect(),
            msix: shown
                .msix
                .value()
                .and_then(Option::as_ref)
                .map(MsixReport::of),
            iommu: shown.iommu.as_ref().map(IommuReport::of),
            guest_bits: shown.guest_bits,
            reserved: shown.reserved.value().map(ranges),
            bars: shown.bars.iter().map(ShownBarReport::of).collect(),
            steps,
            unknown,
            width: table::width(),
        }
    }
}

impl ShowReport<'_> {
    /// With lines of any length.
    pub(crate) fn for_a_file(mut self) -> Self {
        self.width = None;
        self
    }
}

fn why<T>(what: &'static str, known: &Known<T>) -> Option<UnknownReport> {
    let why = match known {
        Known::Yes(_) => return None,
        Known::NeedsRoot => "<needs root>".to_owned(),
        Known::No(why) => why.clone(),
    };
    Some(UnknownReport { what, why })
}

impl<'a> MemberReport<'a> {
    fn of(own: &'a Described) -> Self {
        Self {
            device: own.address.to_string(),
            driver: own.driver.as_deref(),
            class: own.class.map(|code| code.to_string()),
        }
    }
}

impl MsixReport {
    fn of(own: &Msix) -> Self {
        let place = |bar, area: hugebar::layout::Area| Place {
            bar,
            offset: area.offset,
            size: area.size,
        };
        Self {
            vectors: own.vectors,
            table: place(own.table_bar, own.table),
            pba: place(own.pba_bar, own.pba),
        }
    }
}

impl<'a> IommuReport<'a> {
    fn of(own: &'a Iommu) -> Self {
        Self {
            name: &own.name,
            bits: own.bits,
        }
    }
}

impl<'a> ShownBarReport<'a> {
    fn of(own: &'a ShownBar) -> Self {
        let costs = own.costs.iter().map(|own| CostReport {
            placement: own.placement,
            best: own.cost.best,
            worst: own.cost.worst,
        });
        Self {
            bar: BarReport::of(&own.bar),
            held_by: own.held_by.as_deref(),
            sizes: own.sizes.value().map(Vec::as_slice),
            growth: own.growth.as_ref().map(GrowthReport::of),
            placements: costs.collect(),
        }
    }
}

impl<'a> GrowthReport<'a> {
    pub(super) fn of(own: &'a Growth) -> Self {
        let other = |own: &Neighbour| OtherReport {
            device: own.address.to_string(),
            bar: own.bar,
            size: own.size,
        };
        Self {
            fact: own.to_string(),
            whole: format!("{own:#}"),
            bridge: own.bridge.to_string(),
            window: own.window,
            others: own.others.iter().map(other).collect(),
            remedy: &own.remedy,
        }
    }
}
