//! The report of `hugebar inspect`.

use std::fmt;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use hugebar::facts::Facts;
use hugebar::leaf::{Bytes, Leaves};
use hugebar::reason::Reason;
use hugebar_host::escape::Escaped;
use hugebar_host::inspect::{Advice, Inspection, Judgement, Mapping, Process, Watcher};
use hugebar_host::procfs;

use super::print::VERSION;
use super::{table, wrap};

/// The report on all inspected processes.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct InspectReport<'a> {
    version: u32,
    /// The kernel's version number.
    kernel: String,
    /// `uname -r`.
    release: &'a str,
    /// The THP policy; null where THP is not built in.
    thp: Option<String>,
    leaf_sizes: &'a [u64],
    /// The processes that have mapped a VFIO device.
    processes: Vec<ProcessReport<'a>>,
    /// How many processes could not be read.
    unreadable: u64,
    /// How many of these did not answer in time.
    unanswered: u64,
    /// With `--watchers`: who has files of these processes open whose reading removes leaves; null otherwise.
    watchers: Option<Vec<WatcherReport<'a>>>,
    /// Which processes may be hidden; null if none.
    hidden: Option<&'static str>,
    /// How many processes this user may not read.
    #[serde(skip)]
    refused: u64,
    #[serde(skip)]
    width: Option<u16>,
}

/// A process that has such a file open.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct WatcherReport<'a> {
    pid: u32,
    name: &'a str,
    /// The process whose file it is.
    watched: u32,
    /// `smaps`, `smaps_rollup` or `numa_maps`.
    file: &'a str,
    /// Whether it has read from it; null if that is unknown.
    has_read: Option<bool>,
    /// Whether the file is certain to be of that process.
    certain: bool,
}

/// A process.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ProcessReport<'a> {
    pid: u32,
    name: &'a str,
    /// Whether THP is off for it (`PR_SET_THP_DISABLE`); null where the kernel does not say.
    thp_disabled: Option<bool>,
    /// Bytes of all its page tables; null where the kernel does not tell.
    page_tables: Option<u64>,
    mappings: Vec<MappingReport<'a>>,
}

/// A mapping of a device, which is one VMA.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MappingReport<'a> {
    address: String,
    size: u64,
    /// Which device; null if it is ambiguous or unknown.
    device: Option<&'a str>,
    /// The possible devices, if it is ambiguous.
    candidates: &'a [String],
    /// Its driver; null where the device or its driver is not known.
    driver: Option<&'a str>,
    region: Option<u32>,
    /// Offset in the region.
    offset: Option<u64>,
    physical: Option<String>,
    /// The largest leaf size modulo which address and physical address agree.
    congruent: u64,
    /// The leaves at the best address, with the machine's leaf sizes.
    #[cfg_attr(test, schemars(with = "super::schema::Counts"))]
    best: &'a Leaves,
    /// The leaves possible on this kernel, in this process, at its address.
    #[cfg_attr(test, schemars(with = "super::schema::Counts"))]
    possible: &'a Leaves,
    /// The largest of these.
    largest: u64,
    optimal: bool,
    #[serde(skip)]
    judged: Judgement,
    /// `optimal`, `not-counted`, `falls-short`, `contradicted`.
    #[cfg_attr(test, schemars(with = "super::schema::Judgement"))]
    judgement: String,
    /// Whether the page tables are too small for base pages throughout.
    not_in_base_pages: bool,
    smaps: Option<AdviceReport>,
    /// Why it falls short, or what is unknown.
    #[cfg_attr(test, schemars(with = "Vec<super::schema::Reason>"))]
    reasons: &'a [Reason],
}

/// What `--smaps` found.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct AdviceReport {
    hinted: bool,
    refused: bool,
    eligible: Option<bool>,
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

impl<'a> InspectReport<'a> {
    pub(crate) fn new(facts: &'a Facts, inspection: &'a Inspection) -> Self {
        let kernel = facts.kernel.map(|kernel| kernel.to_string());
        Self {
            version: VERSION,
            kernel: kernel.unwrap_or_else(|| facts.release.clone()),
            release: &facts.release,
            thp: facts.thp.map(|policy| policy.to_string()),
            leaf_sizes: facts.leaf_sizes.as_slice(),
            processes: inspection
                .processes
                .iter()
                .map(ProcessReport::new)
                .collect(),
            unreadable: inspection.unreadable,
            unanswered: inspection.timed_out,
            watchers: None,
            hidden: inspection.hidden,
            refused: inspection.refused(),
            width: table::width(),
        }
    }
}

impl<'a> InspectReport<'a> {
    /// With lines of any length.
    pub(crate) fn for_a_file(mut self) -> Self {
        self.width = None;
        self
    }

    /// Adds the result of `--watchers`.
    pub(crate) fn add_watchers(&mut self, all: &'a [Watcher]) {
        let report = |own: &'a Watcher| WatcherReport {
            pid: own.pid,
            name: &own.name,
            watched: own.watched,
            file: own.file,
            has_read: own.has_read,
            certain: own.certain,
        };
        self.watchers = Some(all.iter().map(report).collect());
    }
}

impl<'a> ProcessReport<'a> {
    fn new(process: &'a Process) -> Self {
        Self {
            pid: process.pid,
            name: &process.name,
            thp_disabled: process.thp_disabled,
            page_tables: process.page_tables,
            mappings: process.mappings.iter().map(MappingReport::new).collect(),
        }
    }
}

impl<'a> MappingReport<'a> {
    fn new(mapping: &'a Mapping) -> Self {
        let device = mapping.device();
        Self {
            address: format!("{:#x}", mapping.address),
            size: mapping.size,
            device,
            judged: mapping.judgement,
            candidates: match device {
                Some(_) => &[],
                None => &mapping.devices,
            },
            driver: mapping.driver.as_deref(),
            region: mapping.region,
            offset: mapping.offset,
            physical: mapping.physical.map(|address| format!("{address:#x}")),
            congruent: mapping.congruent,
            best: &mapping.best,
            possible: &mapping.possible,
            largest: mapping.largest,
            optimal: mapping.optimal,
            judgement: mapping.judgement.to_string(),
            not_in_base_pages: mapping.not_in_base_pages,
            smaps: mapping.advice.map(AdviceReport::from),
            reasons: &mapping.reasons,
        }
    }
}

/// As text. Mappings that fall short are coloured.
impl fmt::Display for InspectReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thp = self.thp.as_deref().unwrap_or("not built in");
        writeln!(f, "Linux {}, THP {thp}", self.release)?;
        for process in &self.processes {
            write!(f, "\n{}", process.text(self.width))?;
        }
        if self
            .processes
            .iter()
            .all(|process| process.mappings.is_empty())
        {
            writeln!(f, "no mapping of a VFIO device")?;
        }
        for own in self.watchers.iter().flatten() {
            writeln!(f, "{own}")?;
        }
        if self.watchers.as_ref().is_some_and(Vec::is_empty) {
            writeln!(
                f,
                "no process has smaps, smaps_rollup or numa_maps of these open"
            )?;
        }
        if self.refused > 0 {
            let (refused, missing) = (self.refused, procfs::missing_privilege());
            writeln!(f, "processes that could not be read: {refused} <{missing}>")?;
        }
        if self.unanswered > 0 {
            writeln!(f, "processes that do not answer: {}", self.unanswered)?;
        }
        if let Some(which) = self.hidden {
            writeln!(f, "processes {which} are hidden")?;
        }
        Ok(())
    }
}

impl fmt::Display for WatcherReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pid, name, watched) = (self.pid, Escaped(self.name), self.watched);
        let sure = if self.certain { "" } else { "probably " };
        let read = match self.has_read {
            Some(true) => ", and has read it: that removes 1 GiB leaves",
            Some(false) => ", and has not read it yet",
            None => "",
        };
        let file = self.file;
        write!(
            f,
            "process {pid} ({name}) has {file} open, {sure}of process {watched}{read}"
        )
    }
}

impl ProcessReport<'_> {
    fn text(&self, width: Option<u16>) -> String {
        let mut text = format!("process {}  {}\n", self.pid, Escaped(self.name));
        text.push_str(&self.table(width));
        let mut shown = Vec::new();
        for mapping in &self.mappings {
            for reason in mapping.reasons {
                // One cause for many mappings is shown once.
                let line = reason.to_string();
                if !shown.contains(&line) {
                    text.push_str(&wrap::hanging("  ", 4, &line, width));
                    shown.push(line);
                }
            }
        }
        text
    }

    fn table(&self, width: Option<u16>) -> String {
        let smaps = self.mappings.iter().any(|mapping| mapping.smaps.is_some());
        let head = ["device", "BAR", "offset", "size", "address", "congruent"];
        let advice = smaps.then_some("advice");
        let head = head.into_iter().chain(["possible", "best"]).chain(advice);
        let head: Vec<_> = head.chain([""]).collect();
        let rows = self.mappings.iter().map(|mapping| mapping.row(smaps));
        let rows: Vec<_> = rows.collect();
        table::in_parts(&head, &rows, 2, &[1, 2, 3], width)
    }
}

impl MappingReport<'_> {
    fn row(&self, smaps: bool) -> Vec<String> {
        let unknown = || "?".to_owned();
        let (color, word) = match self.judged {
            Judgement::Optimal => (AnsiColor::Green, "optimal"),
            Judgement::NotCounted => (AnsiColor::Yellow, "not counted"),
            Judgement::FallsShort => (AnsiColor::Red, "falls short"),
            _ => (AnsiColor::Red, "contradicted"),
        };
        let style = Style::new().fg_color(Some(color.into())).bold();
        let mut row = vec![
            self.device.map_or_else(unknown, str::to_owned),
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
