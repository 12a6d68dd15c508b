//! The JSON of `hugebar map`, and commands that produce it.

use hugebar::facts::KernelVersion;
use hugebar::leaf::{GIB, KIB, LeafSizes, Leaves, MIB};
use hugebar_lab::cache::Cache;
use hugebar_lab::{Arch, Command, Output, Spec};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::schema::document;

/// How long a machine may take: a busy host must not fail a test, and usually a machine takes far less.
pub(crate) const LONG: Duration = Duration::from_secs(900);

/// A machine for tests.
pub(crate) fn machine(kernel: &str) -> Spec {
    Spec::new(kernel).timeout(LONG)
}

/// The version of the kernel that has this name in the lab, which changes with time.
pub(crate) fn version(kernel: &str) -> KernelVersion {
    let cache = Cache::open().unwrap();
    let kernel = hugebar_lab::kernel::resolve(&cache, kernel, Arch::X86_64, None).unwrap();
    KernelVersion::parse(&kernel.release).unwrap()
}

/// A kernel that asks the THP policy, as long as one is available.
pub(crate) fn kernel_that_asks() -> &'static str {
    let names = ["6.18", "6.12", "6.17", "6.16", "6.12.113"];
    let asks = |name: &&str| version(name).asks_thp_policy();
    names.into_iter().find(asks).expect("a kernel that asks")
}

/// `hugebar map`, with arguments separated by spaces.
pub(crate) fn map(arguments: &str) -> Command {
    let words = ["hugebar", "map"].into_iter();
    Command::new(words.chain(arguments.split_whitespace()))
}

/// The same, with JSON.
pub(crate) fn map_json(arguments: &str) -> Command {
    map(&format!("{arguments} --json"))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) version: u32,
    pub(crate) device: String,
    pub(crate) backend: String,
    pub(crate) leaf_sizes: Vec<u64>,
    pub(crate) regions: Vec<Region>,
    #[serde(default)]
    pub(crate) failures: Vec<BarFailure>,
    pub(crate) error: Option<Described>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct BarFailure {
    pub(crate) bar: u32,
    pub(crate) error: Described,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Region {
    pub(crate) bar: u32,
    pub(crate) hint: bool,
    pub(crate) alignment: u64,
    pub(crate) areas: Vec<MappedArea>,
    best: BTreeMap<u64, u64>,
    expected: BTreeMap<u64, u64>,
    measured: Option<BTreeMap<u64, u64>>,
    pub(crate) complete: bool,
    pub(crate) faults: u64,
    pub(crate) populate_ns: Option<u64>,
    pub(crate) populated_by: Option<String>,
    witness: Option<BTreeMap<u64, u64>>,
    pub(crate) verdict: String,
    pub(crate) reasons: Vec<Reason>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct MappedArea {
    pub(crate) offset: u64,
    pub(crate) size: u64,
    address: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Reason {
    pub(crate) code: String,
    pub(crate) remedy: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ErrorReport {
    pub(crate) version: u32,
    pub(crate) error: Described,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) errno: Option<i32>,
}

impl Report {
    /// A report by type1, without messages on stderr.
    pub(crate) fn of(output: &Output) -> Self {
        let report = Self::parse(output);
        assert_eq!(report.backend, "type1");
        assert_eq!(report.leaf_sizes, [4 * KIB, 2 * MIB, GIB]);
        assert_eq!(
            output.stderr(),
            "",
            "messages only where something is amiss"
        );
        report
    }

    pub(crate) fn parse(output: &Output) -> Self {
        let report: Self = serde_json::from_value(document(output, "map")).unwrap();
        assert_eq!(report.version, 1);
        report
    }

    /// The only region of a command that succeeded.
    pub(crate) fn region(output: &Output) -> Region {
        assert!(output.success(), "{output:?}");
        let mut report = Self::of(output);
        assert_eq!(report.regions.len(), 1);
        report.regions.remove(0)
    }
}

impl ErrorReport {
    pub(crate) fn of(output: &Output) -> Self {
        let report: Self = serde_json::from_value(document(output, "error")).unwrap();
        assert_eq!(report.version, 1);
        report
    }
}

impl MappedArea {
    pub(crate) fn address(&self) -> u64 {
        u64::from_str_radix(self.address.strip_prefix("0x").unwrap(), 16).unwrap()
    }
}

/// Numbers of 1 GiB, 2 MiB and 4 KiB leaves.
pub(crate) type Counts = [u64; 3];

impl Region {
    /// The reasons given, by code.
    pub(crate) fn codes(&self) -> Vec<&str> {
        let codes = self.reasons.iter();
        codes.map(|reason| reason.code.as_str()).collect()
    }

    pub(crate) fn best(&self) -> Counts {
        counts(&self.best)
    }

    pub(crate) fn expected(&self) -> Counts {
        counts(&self.expected)
    }

    pub(crate) fn measured(&self) -> Counts {
        counts(self.measured.as_ref().expect("measured"))
    }

    /// The leaves in the page tables themselves.
    pub(crate) fn witness(&self) -> Counts {
        counts(self.witness.as_ref().expect("a witness"))
    }

    /// The leaves that the rule gives for the reported addresses.
    pub(crate) fn by_the_rule(&self) -> Counts {
        let sizes = LeafSizes::X86_64;
        let mut sum = Leaves::none(&sizes);
        for area in &self.areas {
            let leaves = hugebar::leaf::leaves(area.address(), area.offset, area.size, &sizes);
            sum.add_all(&leaves);
        }
        [GIB, 2 * MIB, 4 * KIB].map(|size| sum.count(size))
    }
}

fn counts(leaves: &BTreeMap<u64, u64>) -> Counts {
    assert_eq!(leaves.len(), 3);
    [GIB, 2 * MIB, 4 * KIB].map(|size| leaves[&size])
}
