//! The report of `hugebar vf`.

use std::fmt;

use serde::Serialize;

use hugebar::leaf::Bytes;
use hugebar_host::admin::{Plan, VirtualFunctions};
use hugebar_host::doctor::VirtualBar;

use super::print::VERSION;
use super::show::GrowthReport;
use super::uses::{self, UseReport};

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
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MemberReport<'a> {
    device: String,
    driver: Option<&'a str>,
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
            steps: uses::steps(plan),
        }
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

/// With `--dry-run` only the steps, for a shell.
impl fmt::Display for VfReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dry_run {
            let mut steps = self.steps.iter();
            return steps.try_for_each(|step| writeln!(f, "{step}"));
        }
        let driver = |driver: Option<&str>| driver.unwrap_or("no driver").to_owned();
        let (now, total) = (self.functions.len(), self.total);
        write!(f, "{}  {now} of {total} virtual functions", self.device)?;
        if self.before != now {
            write!(f, " ({} before)", self.before)?;
        }
        writeln!(f, ", {}", driver(self.driver))?;
        for own in &self.functions {
            writeln!(f, "  {}  {}", own.device, driver(own.driver))?;
        }
        for own in &self.bars {
            own.line(f)?;
        }
        if let Some(own) = &self.narrow {
            let (bridge, window) = (&own.bridge, Bytes(own.window));
            writeln!(
                f,
                "  bridge {bridge} has a window of {window}; {}",
                own.remedy
            )?;
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
            "total": 2, "before": 0, "functions": [{"device": "0000:01:00.1", "driver": null}],
            "bars": [{"bar": 0, "each": 16384, "all": 32768, "physical": "0xfe800000", "prefetchable": false}],
            "narrow": null, "uses": [], "steps": []});
        schema::check("vf", &right);
    }
}
