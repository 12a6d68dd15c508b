//! The report of `hugebar map`.

use std::fmt;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use hugebar::bar::Bar;
use hugebar::facts::Facts;
use hugebar::leaf::{Bytes, Leaves};
use hugebar::mem::MappedArea;
use hugebar::pci::Address;
use hugebar::plan::Placement;
use hugebar::reason::Reason;
use hugebar::verdict::Verdict;
use hugebar::vfio::Backend;
use hugebar_host::measure::Measured;

use super::failure::Described;
use super::print::VERSION;
use super::{table, wrap};
use crate::failure::Failure;

/// The report on a device.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MapReport {
    version: u32,
    device: String,
    #[cfg_attr(test, schemars(with = "Option<super::schema::Backend>"))]
    backend: Option<Backend>,
    /// The kernel's version number.
    kernel: String,
    /// `uname -r`.
    release: String,
    /// The THP policy; null where THP is not built in.
    thp: Option<String>,
    leaf_sizes: Vec<u64>,
    /// One for each BAR that was mapped.
    regions: Vec<RegionReport>,
    /// One for each BAR that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<BarFailure>,
    /// The first of these, so that every document with exit status 2 has an `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Described>,
}

/// The report on a BAR.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RegionReport {
    bar: u32,
    size: u64,
    #[cfg_attr(test, schemars(with = "super::schema::Placement"))]
    placement: Placement,
    hint: bool,
    refused: bool,
    /// The alignment that the window got.
    alignment: u64,
    areas: Vec<AreaReport>,
    #[cfg_attr(test, schemars(with = "super::schema::Counts"))]
    best: Leaves,
    #[cfg_attr(test, schemars(with = "super::schema::Counts"))]
    expected: Leaves,
    #[cfg_attr(test, schemars(with = "Option<super::schema::Counts>"))]
    measured: Option<Leaves>,
    /// Whether the whole region was counted, not only up to the limit.
    complete: bool,
    faults: u64,
    populated_by: Option<&'static str>,
    populate_ns: Option<u128>,
    /// The leaves in the page tables themselves, with `--witness`.
    #[cfg_attr(test, schemars(with = "Option<super::schema::Counts>"))]
    witness: Option<Leaves>,
    #[cfg_attr(test, schemars(with = "super::schema::Verdict"))]
    verdict: Verdict,
    #[cfg_attr(test, schemars(with = "Vec<super::schema::Reason>"))]
    reasons: Vec<Reason>,
}

/// The failure of a BAR.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct BarFailure {
    bar: u32,
    error: Described,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct AreaReport {
    offset: u64,
    size: u64,
    address: String,
}

impl MapReport {
    pub(crate) fn new(device: Address, backend: Option<Backend>, facts: &Facts) -> Self {
        let kernel = facts.kernel.map(|kernel| kernel.to_string());
        Self {
            version: VERSION,
            device: device.to_string(),
            backend,
            kernel: kernel.unwrap_or_else(|| facts.release.clone()),
            release: facts.release.clone(),
            thp: facts.thp.map(|policy| policy.to_string()),
            leaf_sizes: facts.leaf_sizes.as_slice().to_vec(),
            regions: Vec::new(),
            failures: Vec::new(),
            error: None,
        }
    }

    /// Adds a mapped BAR and its measurement.
    pub(crate) fn add(&mut self, bar: &Bar, measured: &Measured) {
        self.regions.push(RegionReport::new(bar, measured));
    }

    /// Adds the failure of a BAR.
    pub(crate) fn fail(&mut self, bar: u32, failure: &Failure) {
        let error = Described::of(failure);
        self.error.get_or_insert_with(|| error.clone());
        self.failures.push(BarFailure { bar, error });
    }
}

impl RegionReport {
    fn new(mapping: &Bar, measured: &Measured) -> Self {
        let area = |mapped: &MappedArea| AreaReport {
            offset: mapped.area.offset,
            size: mapped.area.size,
            address: format!("{:#x}", mapped.address()),
        };
        Self {
            bar: mapping.region().index(),
            size: mapping.region().size(),
            placement: mapping.plan().placement(),
            hint: mapping.hinted(),
            refused: mapping.no_hugepage(),
            alignment: mapping.alignment(),
            areas: mapping.areas().iter().map(area).collect(),
            best: measured.best,
            expected: measured.expected,
            measured: measured.measured,
            complete: measured.complete,
            faults: measured.faults,
            populated_by: measured.populated_by,
            populate_ns: measured.elapsed.map(|time| time.as_nanos()),
            witness: measured.witness,
            verdict: measured.verdict,
            reasons: measured.reasons.clone(),
        }
    }
}

/// As text. The verdict is coloured. Failures are reported on stderr instead.
impl fmt::Display for MapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.regions.is_empty() {
            return Ok(());
        }
        let thp = self.thp.as_deref().unwrap_or("not built in");
        writeln!(f, "{}  Linux {}, THP {thp}", self.device, self.release)?;
        for region in &self.regions {
            write!(f, "\n{region}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RegionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = match (self.hint, self.refused) {
            (true, _) => "hinted",
            (_, true) => "MADV_NOHUGEPAGE",
            _ => "not hinted",
        };
        let (bar, size, placement) = (self.bar, Bytes(self.size), self.placement);
        writeln!(f, "BAR {bar}  {size}, {placement}, {hint}")?;
        for area in &self.areas {
            let (offset, size, address) = (area.offset, area.size, &area.address);
            writeln!(f, "  {offset:#x}+{size:#x} at {address}")?;
        }
        writeln!(f, "{}", self.table())?;
        let color = match self.verdict {
            Verdict::Optimal => AnsiColor::Green,
            Verdict::AsExpected | Verdict::Unmeasured => AnsiColor::Yellow,
            Verdict::Degraded => AnsiColor::Red,
        };
        let style = Style::new().fg_color(Some(color.into())).bold();
        write!(f, "  {style}{}{style:#}", self.verdict)?;
        if let (Some(by), Some(ns)) = (self.populated_by, self.populate_ns) {
            let time = Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX));
            let faults = self.faults;
            let plural = if faults == 1 { "" } else { "s" };
            write!(
                f,
                ": {faults} fault{plural}, populated by {by} in {time:.1?}"
            )?;
        }
        writeln!(f)?;
        for reason in &self.reasons {
            let reason = reason.to_string();
            f.write_str(&wrap::hanging("  ", 4, &reason, table::width()))?;
        }
        Ok(())
    }
}

impl RegionReport {
    /// Leaves by size, the largest first.
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let sizes = self
            .best
            .iter()
            .rev()
            .map(|(size, _)| Bytes(size).to_string());
        let head = [String::new()].into_iter().chain(sizes);
        table.set_header(head.chain(["leaves".to_owned()]));
        let rows = [
            ("best", Some(&self.best)),
            ("expected", Some(&self.expected)),
            ("measured", self.measured.as_ref()),
        ];
        let witness = self.witness.iter().map(|seen| ("witness", Some(seen)));
        for (name, leaves) in rows.into_iter().chain(witness) {
            let counts = leaves.map(|leaves| {
                let counts = leaves.iter().rev().map(|(_, count)| count.to_string());
                counts.chain([leaves.total().to_string()]).collect()
            });
            let unknown = || vec!["-".to_owned(); self.best.iter().count() + 1];
            let name = [format!(" {name}")].into_iter();
            table.add_row(name.chain(counts.unwrap_or_else(unknown)));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}
