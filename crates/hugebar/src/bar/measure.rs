//! Measures a mapped BAR.

use std::ops::ControlFlow;

use crate::census::{Census, CensusOptions, census};
use crate::error::Result;
use crate::facts::Facts;
use crate::leaf::Leaves;
use crate::populate::Populate;
use crate::reason::{self, Evidence, Reason};
use crate::verdict::Verdict;

use super::Bar;

/// The result of measuring a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measurement {
    /// The fewest leaves at any addresses.
    pub best: Leaves,
    /// The leaves that these addresses give on this kernel.
    pub expected: Leaves,
    /// The leaves that were counted.
    pub census: Census,
    /// How they compare.
    pub verdict: Verdict,
    /// Why there are more leaves than necessary.
    pub reasons: Vec<Reason>,
}

/// How to measure a BAR.
pub struct MeasureOptions<'a> {
    /// Facts about machine, kernel and process.
    pub facts: &'a Facts,
    /// The device's driver, if known: it can be a reason.
    pub driver: Option<&'a str>,
    /// Options of the census.
    pub census: CensusOptions<'a>,
}

impl Bar {
    /// Populates the BAR, counts the leaves that the kernel installed, and explains why there are more than
    /// necessary: [`census`] and [`reason::explain`]. Call it before anything touches the BAR.
    ///
    /// # Errors
    ///
    /// As [`census`].
    pub fn measure(&self, populate: &mut dyn Populate) -> Result<Measurement> {
        let census = CensusOptions {
            limit: None,
            progress: &mut |_| ControlFlow::Continue(()),
        };
        let options = MeasureOptions {
            facts: &Facts::observe(),
            driver: None,
            census,
        };
        self.measure_with(populate, options)
    }

    /// The same with options: a limit, and a progress callback.
    ///
    /// # Errors
    ///
    /// As [`census`].
    pub fn measure_with(
        &self,
        populate: &mut dyn Populate,
        options: MeasureOptions<'_>,
    ) -> Result<Measurement> {
        let facts = options.facts;
        let census = census(self, facts, populate, options.census)?;
        let (best, expected) = (
            self.plan().best(),
            self.expected(&facts.device_leaf_sizes()),
        );
        let evidence = Evidence {
            facts,
            mapping: self,
            measured: Some(&census.measured),
            broken: census.broken,
            driver: options.driver,
        };
        Ok(Measurement {
            best,
            expected,
            census,
            verdict: census.verdict(&best, &expected),
            reasons: reason::explain(&evidence),
        })
    }
}
