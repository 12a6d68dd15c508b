//! Counts the leaves of mapped BARs in the way that this host supports, and reports the result, also if there is
//! no way or the count fails.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use hugebar::ErrorKind;
use hugebar::bar::{Bar, MeasureOptions, Measurement};
use hugebar::census::{Census, CensusOptions, Progress};
use hugebar::facts::Facts;
use hugebar::leaf::{Bytes, Leaves};
use hugebar::pci::Function;
use hugebar::populate::Populate;
use hugebar::reason::{self, Code, Evidence, Reason};
use hugebar::verdict::{Requirement, Verdict};
use hugebar::vfio::Device;

use crate::error::Error;
use crate::{page_tables, populate};

/// Measures the BARs of a device.
pub struct Measuring<'a> {
    device: &'a Device,
    facts: &'a Facts,
    driver: Option<String>,
    populate: Result<Box<dyn Populate>, Reason>,
    limit: Option<u64>,
    witness: bool,
}

/// Called before each step; `Break` ends the count ([`CensusOptions::progress`]).
pub type Watch<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

impl<'a> Measuring<'a> {
    /// Uses the first way of populating that this device has ([`populate::for_device`]). `function` is the device's.
    pub fn new(device: &'a Device, function: &Function, facts: &'a Facts) -> Self {
        Self {
            device,
            facts,
            driver: function.driver().ok().flatten(),
            populate: populate::for_device(device),
            limit: None,
            witness: false,
        }
    }

    /// Populates at most `bytes` in base pages; `None` for no limit ([`CensusOptions::limit`]).
    #[must_use]
    pub fn limit(mut self, bytes: Option<u64>) -> Self {
        self.limit = bytes;
        self
    }

    /// Also reads the page tables themselves ([`page_tables::leaves`]).
    #[must_use]
    pub fn witness(mut self, wanted: bool) -> Self {
        self.witness = wanted;
        self
    }

    /// The way of populating; `None` if there is none.
    pub fn populated_by(&self) -> Option<&'static str> {
        self.populate.as_ref().map(|by| by.name()).ok()
    }

    /// Populates a BAR and counts its leaves, before anything touches it.
    ///
    /// A failed count is a [`Reason`], not an error, if the mapping itself is still good.
    ///
    /// # Errors
    ///
    /// Otherwise those of [`Bar::measure_with`], and those of [`page_tables::leaves`].
    pub fn measure(&mut self, bar: &Bar, progress: Watch<'_>) -> Result<Measured, Error> {
        let mut measured = match self.count(bar, progress)? {
            Ok(measured) => measured,
            Err(why) => self.uncounted(bar, why),
        };
        if self.witness {
            measured.witness = Some(page_tables::leaves(bar, &self.facts.leaf_sizes)?);
        }
        Ok(measured)
    }

    /// Counts the leaves, or returns why that is not possible.
    fn count(
        &mut self,
        bar: &Bar,
        progress: Watch<'_>,
    ) -> Result<Result<Measured, Reason>, hugebar::Error> {
        let populate = match &mut self.populate {
            Ok(populate) => populate,
            Err(lacking) => return Ok(Err(lacking.clone())),
        };
        let options = MeasureOptions {
            facts: self.facts,
            driver: self.driver.as_deref(),
            census: CensusOptions {
                limit: self.limit,
                progress,
            },
        };
        match bar.measure_with(populate.as_mut(), options) {
            Ok(counted) => Ok(Ok(Measured::counted(counted, populate.name(), self.limit))),
            Err(error) if concerns_only_the_count(error.kind()) => {
                let decode = self.device.memory_decode().ok();
                Ok(Err(reason::uncounted(&error, decode)))
            }
            Err(error) => Err(error),
        }
    }

    /// The result for a mapping whose leaves were not counted.
    fn uncounted(&self, bar: &Bar, why: Reason) -> Measured {
        let evidence = Evidence {
            facts: self.facts,
            mapping: bar,
            measured: None,
            broken: false,
            driver: self.driver.as_deref(),
        };
        let mut reasons = vec![why];
        reasons.extend(reason::explain(&evidence));
        Measured {
            best: bar.plan().best(),
            expected: bar.expected(&self.facts.device_leaf_sizes()),
            measured: None,
            complete: false,
            faults: 0,
            populated_by: None,
            elapsed: None,
            verdict: Verdict::Unmeasured,
            reasons,
            witness: None,
        }
    }
}

/// Whether an error leaves the mapping good, and only its leaves unknown.
fn concerns_only_the_count(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::AlreadyPopulated | ErrorKind::Miscounted | ErrorKind::NotMappableForDma
    )
}

fn limited(limit: Option<u64>, census: &Census) -> Reason {
    let limit = Bytes(limit.unwrap_or(u64::MAX));
    let counted = census.measured.bytes();
    let fact = format!(
        "{counted} bytes were counted: the rest would have taken more than {limit} in base pages"
    );
    Reason::new(Code::Limit, fact, "raise --limit to count all of it")
}

/// The result of measuring a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measured {
    /// The fewest leaves at any addresses.
    pub best: Leaves,
    /// The leaves that these addresses give on this kernel.
    pub expected: Leaves,
    /// The leaves that were counted; `None` if counting was not possible.
    pub measured: Option<Leaves>,
    /// Whether all of it was counted, and not only up to a limit.
    pub complete: bool,
    /// Minor faults while populating.
    pub faults: u64,
    /// How the leaves were installed.
    pub populated_by: Option<&'static str>,
    /// How long the kernel took for that.
    pub elapsed: Option<Duration>,
    /// How measured, expected and best compare.
    pub verdict: Verdict,
    /// Why there are more leaves than necessary, or why they are unknown.
    pub reasons: Vec<Reason>,
    /// The leaves in the page tables themselves, if they were read.
    pub witness: Option<Leaves>,
}

impl Measured {
    fn counted(counted: Measurement, by: &'static str, limit: Option<u64>) -> Self {
        let census = counted.census;
        let mut reasons = counted.reasons;
        if !census.complete {
            reasons.push(limited(limit, &census));
        }
        Self {
            best: counted.best,
            expected: counted.expected,
            measured: Some(census.measured).filter(|leaves| leaves.total() > 0),
            complete: census.complete,
            faults: census.faults,
            populated_by: Some(by),
            elapsed: Some(census.elapsed),
            verdict: counted.verdict,
            reasons,
            witness: None,
        }
    }

    /// Whether all leaves were counted and meet a requirement.
    pub fn meets(&self, required: Requirement) -> bool {
        let measured = self.measured.filter(|_| self.complete);
        measured.is_some_and(|measured| required.is_met(&self.best, &measured))
    }

    /// The counted leaves and those in the page tables, if they differ. An incomplete count
    /// cannot be compared.
    pub fn contradiction(&self) -> Option<(Leaves, Leaves)> {
        let measured = self.measured.filter(|_| self.complete);
        let (measured, seen) = measured.zip(self.witness)?;
        (measured != seen).then_some((measured, seen))
    }
}

impl fmt::Debug for Measuring<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measuring")
            .field("populated_by", &self.populated_by())
            .field("limit", &self.limit)
            .field("witness", &self.witness)
            .finish_non_exhaustive()
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

    /// A BAR of 4 GiB with optimal leaves.
    fn counted(complete: bool) -> Measured {
        let best = leaves(GIB, 4);
        Measured {
            best,
            expected: best,
            measured: Some(best),
            complete,
            faults: 4,
            populated_by: Some("type1"),
            elapsed: Some(Duration::from_nanos(1)),
            verdict: Verdict::Optimal,
            reasons: Vec::new(),
            witness: None,
        }
    }

    /// One case has as many leaves as were counted, but of other sizes.
    #[test]
    fn page_tables_can_contradict_a_count() {
        for seen in [leaves(GIB, 3), leaves(GIB, 0), leaves(2 * MIB, 4)] {
            let mut measured = counted(true);
            measured.witness = Some(seen);
            assert_eq!(measured.contradiction(), Some((leaves(GIB, 4), seen)));
        }
        let mut measured = counted(true);
        assert_eq!(measured.contradiction(), None);
        measured.witness = Some(leaves(GIB, 4));
        assert_eq!(measured.contradiction(), None);
    }

    /// The page tables cover the whole BAR, the count does not: nothing to compare.
    #[test]
    fn a_count_that_is_not_complete_is_not_contradicted() {
        for counted_so_far in [None, Some(leaves(GIB, 1))] {
            let mut measured = counted(false);
            measured.measured = counted_so_far;
            measured.witness = Some(leaves(GIB, 4));
            assert_eq!(measured.contradiction(), None);
        }
    }

    #[test]
    fn only_what_was_counted_whole_meets_a_requirement() {
        for required in [Requirement::Optimal, Requirement::Size(GIB)] {
            assert!(counted(true).meets(required), "{required}");
            assert!(!counted(false).meets(required), "{required}");
            let mut measured = counted(true);
            measured.measured = Some(leaves(2 * MIB, 2048));
            assert!(!measured.meets(required), "{required}");
            measured.measured = None;
            assert!(!measured.meets(required), "{required}");
        }
    }
}
