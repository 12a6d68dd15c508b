//! What `hugebar map` reports.

use std::fmt;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use hugebar::census::Census;
use hugebar::facts::Facts;
use hugebar::leaf::{Bytes, Leaves};
use hugebar::mem::{MappedArea, Mapping};
use hugebar::pci::Address;
use hugebar::plan::Placement;
use hugebar::reason::Reason;
use hugebar::verdict::Verdict;
use hugebar::vfio::Backend;

use super::print::VERSION;

/// The report on a device.
#[derive(Debug, Serialize)]
pub(crate) struct MapReport {
    version: u32,
    device: String,
    backend: Option<Backend>,
    /// The kernel's numbers.
    kernel: String,
    /// `uname -r`.
    release: String,
    /// The THP policy; null where THP is not built in.
    thp: Option<String>,
    leaf_sizes: Vec<u64>,
    /// One for each BAR that was mapped.
    pub(crate) regions: Vec<RegionReport>,
}

/// The report on a BAR.
#[derive(Debug, Serialize)]
pub(crate) struct RegionReport {
    pub(crate) bar: u32,
    size: u64,
    placement: Placement,
    hint: bool,
    refused: bool,
    /// The alignment of the window that was reached.
    alignment: u64,
    areas: Vec<AreaReport>,
    pub(crate) best: Leaves,
    pub(crate) expected: Leaves,
    pub(crate) measured: Option<Leaves>,
    /// Whether all of it was counted, and not only up to the limit.
    pub(crate) complete: bool,
    pub(crate) faults: u64,
    pub(crate) populated_by: Option<&'static str>,
    pub(crate) populate_ns: Option<u128>,
    /// What the page tables themselves say, where they were asked.
    witness: Option<Leaves>,
    pub(crate) verdict: Verdict,
    pub(crate) reasons: Vec<Reason>,
}

#[derive(Debug, Serialize)]
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
        }
    }
}

impl RegionReport {
    /// A mapping that nothing has counted yet.
    pub(crate) fn new(bar: u32, size: u64, mapping: &Mapping, facts: &Facts) -> Self {
        let area = |mapped: &MappedArea| AreaReport {
            offset: mapped.area.offset,
            size: mapped.area.size,
            address: format!("{:#x}", mapped.address()),
        };
        Self {
            bar,
            size,
            placement: mapping.plan().placement(),
            hint: mapping.hinted(),
            refused: mapping.no_hugepage(),
            alignment: mapping.alignment(),
            areas: mapping.areas().iter().map(area).collect(),
            best: mapping.plan().best(),
            expected: mapping.expected(&facts.device_leaf_sizes()),
            measured: None,
            complete: false,
            faults: 0,
            populated_by: None,
            populate_ns: None,
            witness: None,
            verdict: Verdict::Unmeasured,
            reasons: Vec::new(),
        }
    }
}

impl RegionReport {
    /// Takes what a census found.
    pub(crate) fn count(&mut self, census: &Census, populated_by: &'static str) {
        self.verdict = census.verdict(&self.best, &self.expected);
        self.measured = Some(census.measured).filter(|leaves| leaves.total() > 0);
        self.complete = census.complete;
        self.faults = census.faults;
        self.populated_by = Some(populated_by);
        self.populate_ns = Some(census.elapsed.as_nanos());
    }

    /// Whether a limit ended the count.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.populated_by.is_some() && !self.complete
    }

    /// Takes what the page tables have. Where the count is complete it must be the same; otherwise the error says
    /// what the difference is.
    pub(crate) fn compare(&mut self, seen: Leaves) -> Result<(), String> {
        self.witness = Some(seen);
        match self.measured {
            Some(measured) if self.complete && measured != seen => Err(format!(
                "BAR {}: counted {measured}, but the page tables have {seen}; please report this",
                self.bar
            )),
            _ => Ok(()),
        }
    }
}

/// For people. What fell short is coloured.
impl fmt::Display for MapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
            (_, true) => "huge pages refused",
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
            writeln!(f, "  {reason}")?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use hugebar::leaf::{GIB, LeafSizes, MIB};

    fn leaves(size: u64, count: u64) -> Leaves {
        let mut leaves = Leaves::none(&LeafSizes::X86_64);
        leaves.add(size, count);
        leaves
    }

    /// A BAR of 4 GiB that was counted, and found to be as it should be.
    fn counted(complete: bool) -> RegionReport {
        let best = leaves(GIB, 4);
        RegionReport {
            bar: 2,
            size: 4 * GIB,
            placement: Placement::Congruent,
            hint: true,
            refused: false,
            alignment: GIB,
            areas: Vec::new(),
            best,
            expected: best,
            measured: Some(best),
            complete,
            faults: 4,
            populated_by: Some("type1"),
            populate_ns: Some(1),
            witness: None,
            verdict: Verdict::Optimal,
            reasons: Vec::new(),
        }
    }

    /// Page tables that have as many leaves as were counted, but others, among them.
    #[test]
    fn a_count_that_the_page_tables_contradict_is_an_error() {
        for seen in [leaves(GIB, 3), leaves(GIB, 0), leaves(2 * MIB, 4)] {
            let mut report = counted(true);
            let message = report.compare(seen).unwrap_err();
            for words in ["BAR 2", "counted 4 × 1 GiB", &seen.to_string(), "report"] {
                assert!(message.contains(words), "{words:?} is not in: {message}");
            }
        }
        let mut report = counted(true);
        assert!(report.compare(leaves(GIB, 4)).is_ok());
        assert_eq!(report.witness, Some(leaves(GIB, 4)));
    }

    /// The page tables have all of it, the count has not: nothing to compare.
    #[test]
    fn a_count_that_is_not_complete_is_not_contradicted() {
        for measured in [None, Some(leaves(GIB, 1))] {
            let mut report = counted(false);
            report.measured = measured;
            assert!(report.compare(leaves(GIB, 4)).is_ok());
            assert_eq!(report.witness, Some(leaves(GIB, 4)));
        }
    }
}
