//! The report of `hugebar vf`.

use std::fmt;

use serde::Serialize;

use hugebar::leaf::Bytes;
use hugebar::pci::Function;
use hugebar_host::admin::{Plan, VirtualFunctions};
use hugebar_host::doctor::VirtualBar;

use super::change::{self, UseReport};
use super::device::escaped;
use super::print::VERSION;
use super::show::GrowthReport;
use super::table::{self, Column};
use super::wrap;
use crate::args::VfColumn;

/// The report of `hugebar vf`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VfReport<'a> {
    version: u32,
    dry_run: bool,
    /// The physical function.
    device: String,
    driver: Option<&'a str>,
    /// How many virtual functions it can have.
    total: u16,
    /// How many it had before.
    before: usize,
    /// Those that it has now.
    functions: Vec<MemberReport<'a>>,
    bars: Vec<BarReport>,
    /// The bridge window that is too small for BARs without an address; null if nothing is known to be.
    narrow: Option<GrowthReport<'a>>,
    /// What removed ones were in use for: only with `--force`.
    uses: Vec<UseReport<'a>>,
    /// The steps, as lines for a shell.
    steps: Vec<String>,
    /// The columns of a table of the functions; empty for the usual text.
    #[serde(skip)]
    columns: &'a [VfColumn],
    #[serde(skip)]
    headings: bool,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MemberReport<'a> {
    device: String,
    driver: Option<&'a str>,
    /// Its IOMMU group.
    group: Option<u32>,
}

/// A BAR of the virtual functions.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct BarReport {
    bar: usize,
    /// Its size for each virtual function; null if unknown.
    each: Option<u64>,
    /// For as many as the device can have: this is what the kernel looks for room for. Null if unknown.
    all: Option<u64>,
    /// Of the first one; null if the kernel has found no room.
    physical: Option<String>,
    prefetchable: bool,
}

impl<'a> VfReport<'a> {
    pub(crate) fn new(
        before: &VirtualFunctions,
        now: &'a VirtualFunctions,
        plan: Option<&'a Plan>,
        dry_run: bool,
    ) -> Self {
        let functions = now.functions.iter().map(|(address, driver)| MemberReport {
            device: address.to_string(),
            driver: driver.as_deref(),
            group: Function::at(*address)
                .ok()
                .and_then(|own| own.iommu_group().ok()?),
        });
        Self {
            version: VERSION,
            dry_run,
            device: now.device.to_string(),
            driver: now.driver.as_deref(),
            total: now.total,
            before: before.functions.len(),
            functions: functions.collect(),
            bars: now.bars.iter().map(BarReport::of).collect(),
            narrow: now.narrow.as_ref().map(GrowthReport::of),
            uses: UseReport::of(plan),
            steps: change::steps(plan),
            columns: &[],
            headings: true,
        }
    }

    /// Has the text be a table of the virtual functions.
    pub(crate) fn choose(&mut self, columns: &'a [VfColumn], headings: bool) {
        self.columns = columns;
        self.headings = headings;
    }

    fn table(&self) -> String {
        let rows = self.functions.iter().map(|own| {
            let cell = |column: &VfColumn| match column {
                VfColumn::Device => own.device.clone(),
                VfColumn::Driver => own.driver.map_or("-".to_owned(), escaped),
                VfColumn::Group => own.group.map_or("-".to_owned(), |group| group.to_string()),
            };
            self.columns.iter().map(cell).collect()
        });
        table::chosen(self.columns, self.headings, rows.collect(), table::width())
    }
}

impl BarReport {
    fn of(own: &VirtualBar) -> Self {
        Self {
            bar: own.bar,
            each: own.each,
            all: own.all,
            physical: own.address.map(|address| format!("{address:#x}")),
            prefetchable: own.prefetchable,
        }
    }
}

impl Column for VfColumn {
    fn heading(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Driver => "driver",
            Self::Group => "group",
        }
    }

    fn is_number(self) -> bool {
        self == Self::Group
    }
}

/// With `--dry-run` only the steps, for a shell.
impl fmt::Display for VfReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dry_run {
            return change::write_steps(f, &self.steps);
        }
        if !self.columns.is_empty() {
            return f.write_str(&self.table());
        }
        let (now, total) = (self.functions.len(), self.total);
        write!(f, "{}  {now} of {total} virtual functions", self.device)?;
        change::write_change(f, (self.before, now), self.driver)?;
        for own in &self.functions {
            writeln!(f, "  {}  {}", own.device, change::driver(own.driver))?;
        }
        for own in &self.bars {
            own.line(f)?;
        }
        if let Some(own) = &self.narrow {
            let told = format!("{}; {}", own.whole, own.remedy);
            f.write_str(&wrap::hanging("  ", 2, &told, table::width()))?;
        }
        Ok(())
    }
}

impl BarReport {
    fn line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  BAR {}", self.bar)?;
        if let Some(each) = self.each {
            write!(f, "  {} each", Bytes(each))?;
        }
        match (self.all, &self.physical) {
            (Some(all), Some(at)) => writeln!(f, ", {} for all at {at}", Bytes(all)),
            (Some(all), None) => writeln!(f, ", no room for {}", Bytes(all)),
            (None, _) => writeln!(f, ", no room"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema;

    #[test]
    fn documents() {
        let right = serde_json::json!({"version": 1, "dry_run": false, "device": "0000:01:00.0", "driver": "nvme",
            "total": 2, "before": 0, "functions": [{"device": "0000:01:00.1", "driver": null, "group": 7}],
            "bars": [{"bar": 0, "each": 16384, "all": 32768, "physical": "0xfe800000", "prefetchable": false}],
            "narrow": null, "uses": [], "steps": []});
        schema::check("vf", &right);
    }
}
