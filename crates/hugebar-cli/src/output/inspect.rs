//! What `hugebar inspect` reports.

use std::fmt;

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use hugebar::facts::Facts;
use hugebar::leaf::{Bytes, Leaves};
use hugebar::reason::Reason;

use super::Plain;
use crate::host::procfs::{self, Advice};

/// The report on all processes that were looked at.
#[derive(Debug, Serialize)]
pub(crate) struct InspectReport {
    version: u32,
    /// The kernel's numbers.
    kernel: String,
    /// `uname -r`.
    release: String,
    /// The THP policy; null where THP is not built in.
    thp: Option<String>,
    leaf_sizes: Vec<u64>,
    /// Those that have mapped a VFIO device.
    pub(crate) processes: Vec<ProcessReport>,
    /// How many could not be read.
    pub(crate) unreadable: u64,
    /// How many of these did not answer in time.
    pub(crate) unanswered: u64,
    /// Which processes may be there that are not seen at all; null where all are.
    pub(crate) hidden: Option<&'static str>,
}

/// A process.
#[derive(Debug, Serialize)]
pub(crate) struct ProcessReport {
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// Whether THP is off for it (`PR_SET_THP_DISABLE`); null where the kernel does not tell.
    pub(crate) thp_disabled: Option<bool>,
    pub(crate) mappings: Vec<MappingReport>,
}

/// A mapping of a device, which is one VMA.
#[derive(Debug, Serialize)]
pub(crate) struct MappingReport {
    pub(crate) address: String,
    pub(crate) size: u64,
    /// Which device; null where several could be it, or none is known.
    pub(crate) device: Option<String>,
    /// Those that could be it, where it cannot be told.
    pub(crate) candidates: Vec<String>,
    pub(crate) region: Option<u32>,
    /// Where in the region.
    pub(crate) offset: Option<u64>,
    pub(crate) physical: Option<String>,
    /// The largest leaf size modulo which address and physical address agree.
    pub(crate) congruent: u64,
    /// With the machine's leaf sizes, at the best address.
    pub(crate) best: Leaves,
    /// On this kernel, in this process, at its address.
    pub(crate) possible: Leaves,
    /// The largest of these.
    pub(crate) largest: u64,
    pub(crate) optimal: bool,
    pub(crate) smaps: Option<AdviceReport>,
    /// Why it falls short, or what could not be told.
    pub(crate) reasons: Vec<Reason>,
}

/// What `--smaps` has found.
#[derive(Debug, Serialize)]
pub(crate) struct AdviceReport {
    pub(crate) hinted: bool,
    pub(crate) refused: bool,
    pub(crate) eligible: Option<bool>,
}

impl From<Advice> for AdviceReport {
    fn from(advice: Advice) -> Self {
        Self {
            hinted: advice.hinted,
            refused: advice.refused,
            eligible: advice.eligible,
        }
    }
}

impl InspectReport {
    pub(crate) fn new(facts: &Facts) -> Self {
        let kernel = facts.kernel.map(|kernel| kernel.to_string());
        Self {
            version: super::VERSION,
            kernel: kernel.unwrap_or_else(|| facts.release.clone()),
            release: facts.release.clone(),
            thp: facts.thp.map(|policy| policy.to_string()),
            leaf_sizes: facts.leaf_sizes.as_slice().to_vec(),
            processes: Vec::new(),
            unreadable: 0,
            unanswered: 0,
            hidden: None,
        }
    }

    pub(crate) fn mappings(&self) -> impl Iterator<Item = &MappingReport> {
        self.processes.iter().flat_map(|process| &process.mappings)
    }
}

/// For people. What fell short is coloured.
impl fmt::Display for InspectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thp = self.thp.as_deref().unwrap_or("not built in");
        writeln!(f, "Linux {}, THP {thp}", self.release)?;
        for process in &self.processes {
            write!(f, "\n{process}")?;
        }
        if self.mappings().next().is_none() {
            writeln!(f, "no mapping of a VFIO device")?;
        }
        let refused = self.unreadable - self.unanswered;
        if refused > 0 {
            let lacking = procfs::lacking();
            writeln!(f, "processes that could not be read: {refused} <{lacking}>")?;
        }
        if self.unanswered > 0 {
            writeln!(f, "processes that do not answer: {}", self.unanswered)?;
        }
        if let Some(which) = self.hidden {
            writeln!(f, "processes {which} are not seen")?;
        }
        Ok(())
    }
}

impl fmt::Display for ProcessReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "process {}  {}", self.pid, Plain(&self.name))?;
        writeln!(f, "{}", self.table())?;
        let mut told = Vec::new();
        for mapping in &self.mappings {
            for reason in &mapping.reasons {
                // One cause for many mappings is told once.
                let line = reason.to_string();
                if !told.contains(&line) {
                    writeln!(f, "  {line}")?;
                    told.push(line);
                }
            }
        }
        Ok(())
    }
}

impl ProcessReport {
    fn table(&self) -> Table {
        let smaps = self.mappings.iter().any(|mapping| mapping.smaps.is_some());
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let head = ["device", "BAR", "offset", "size", "address", "congruent"];
        let advice = smaps.then_some("advice");
        let head = head.into_iter().chain(["possible", "best"]).chain(advice);
        table.set_header(head.chain([""]));
        for mapping in &self.mappings {
            table.add_row(mapping.row(smaps));
        }
        for column in [1, 2, 3] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

impl MappingReport {
    fn row(&self, smaps: bool) -> Vec<String> {
        let unknown = || "?".to_owned();
        let (color, word) = if self.optimal {
            (AnsiColor::Green, "optimal")
        } else {
            (AnsiColor::Red, "falls short")
        };
        let style = Style::new().fg_color(Some(color.into())).bold();
        let mut row = vec![
            self.device.clone().unwrap_or_else(unknown),
            self.region
                .map_or_else(unknown, |region| region.to_string()),
            self.offset
                .map_or_else(unknown, |offset| format!("{offset:#x}")),
            format!("{:#x}", self.size),
            self.address.clone(),
            Bytes(self.congruent).to_string(),
            self.possible.to_string(),
            self.best.to_string(),
        ];
        if smaps {
            row.push(match &self.smaps {
                Some(advice) if advice.refused => "MADV_NOHUGEPAGE".to_owned(),
                Some(advice) if advice.hinted => "MADV_HUGEPAGE".to_owned(),
                Some(_) => "none".to_owned(),
                None => unknown(),
            });
        }
        row.push(format!("{style}{word}{style:#}"));
        row
    }
}
