//! `hugebar inspect` on processes that hold mappings.

mod holders;
mod policies;
mod tables;

use std::collections::BTreeMap;
use std::ops::Range;

use hugebar::leaf::{self, GIB, KIB, LeafSizes, MIB};
use hugebar_lab::{Command, Output};
use serde::Deserialize;

use crate::device::with_exercise;
use crate::report::Counts;
use crate::schema::document;

#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    version: u32,
    pub(crate) processes: Vec<Process>,
    pub(crate) unreadable: u64,
    #[serde(default)]
    pub(crate) unanswered: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) thp_disabled: Option<bool>,
    pub(crate) page_tables: Option<u64>,
    pub(crate) mappings: Vec<Mapping>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Mapping {
    address: String,
    pub(crate) size: u64,
    pub(crate) device: Option<String>,
    candidates: Vec<String>,
    driver: Option<String>,
    pub(crate) region: Option<u32>,
    pub(crate) offset: Option<u64>,
    physical: Option<String>,
    pub(crate) congruent: u64,
    best: BTreeMap<u64, u64>,
    possible: BTreeMap<u64, u64>,
    pub(crate) optimal: bool,
    pub(crate) judgement: String,
    pub(crate) not_in_base_pages: bool,
    pub(crate) smaps: Option<Advice>,
    pub(crate) reasons: Vec<Note>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Advice {
    pub(crate) hinted: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Note {
    pub(crate) code: String,
}

impl Report {
    pub(crate) fn of(output: &Output) -> Self {
        let report: Self = serde_json::from_value(document(output, "inspect")).unwrap();
        assert_eq!(report.version, 1);
        report
    }

    /// The mappings of the only process.
    fn mappings(output: &Output) -> Vec<Mapping> {
        let mut report = Self::of(output);
        assert_eq!(report.processes.len(), 1, "{report:?}");
        let process = report.processes.remove(0);
        assert_eq!(
            (process.name.as_str(), process.thp_disabled),
            ("hugebar", Some(false))
        );
        process.mappings
    }
}

impl Mapping {
    fn hex(text: &str) -> u64 {
        u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
    }

    /// Its address range in the process.
    pub(crate) fn addresses(&self) -> Range<u64> {
        let start = Self::hex(&self.address);
        start..start + self.size
    }

    pub(crate) fn possible(&self) -> Counts {
        [GIB, 2 * MIB, 4 * KIB].map(|size| self.possible[&size])
    }

    /// Checks everything against the rule, at any address.
    pub(crate) fn assert_sound(&self, device: &str, sizes: &LeafSizes) {
        assert_eq!(self.device.as_deref(), Some(device), "{self:?}");
        assert!(self.candidates.is_empty());
        let physical = Self::hex(self.physical.as_deref().unwrap());
        let address = self.addresses().start;
        // BAR 2 of the device is naturally aligned.
        assert_eq!(physical % (4 * GIB), self.offset.unwrap());
        let rule = leaf::leaves(address, physical, self.size, sizes);
        let best = leaf::leaves(physical, physical, self.size, &LeafSizes::X86_64);
        let counts = |leaves: &leaf::Leaves| [GIB, 2 * MIB, 4 * KIB].map(|size| leaves.count(size));
        assert_eq!(self.possible(), counts(&rule), "{self:?}");
        let reported = [GIB, 2 * MIB, 4 * KIB].map(|size| self.best[&size]);
        assert_eq!(reported, counts(&best), "{self:?}");
        assert_eq!(self.driver.as_deref(), Some("vfio-pci"));
        assert_eq!(self.optimal, rule.total() == best.total());
        let unsure = self.reasons.iter().any(|note| note.code == "thp-policy");
        let judgement = match (self.optimal, unsure) {
            (true, false) => "optimal",
            (true, true) => "not-counted",
            (false, _) => "falls-short",
        };
        assert_eq!(self.judgement, judgement, "{self:?}");
        assert_eq!(address % self.congruent, physical % self.congruent);
    }
}

pub(crate) fn inspect(arguments: &str) -> Command {
    let words = ["hugebar", "inspect"].into_iter();
    Command::new(words.chain(arguments.split_whitespace()))
}

/// Inspecting a process does not change its leaves, as the page tables show.
#[test]
fn nothing_is_taken_from_whom_it_looks_at() {
    let watched = Command::new(["exercise", "watched", "0000:00:10.0"]);
    let report = with_exercise("lab").run(&[watched]).unwrap();
    let output = &report.commands[0];
    assert!(output.success() && output.stdout() == "ok\n", "{output:?}");
}
