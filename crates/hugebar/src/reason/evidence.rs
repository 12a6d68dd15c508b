//! What reasons are judged by.

use crate::facts::Facts;
use crate::leaf::Leaves;
use crate::mem::Mapping;

/// The facts of a run about a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Machine, kernel and process.
    pub facts: &'a Facts,
    /// The mapping.
    pub mapping: &'a Mapping,
    /// The leaves that were counted, if any.
    pub measured: Option<&'a Leaves>,
    /// Whether some leaf turned out to be smaller than its addresses allow
    /// ([`crate::census::Census::broken`]).
    pub broken: bool,
    /// The device's driver, if known.
    pub driver: Option<&'a str>,
}

impl Evidence<'_> {
    pub(super) fn expected(&self) -> Leaves {
        self.mapping.expected(&self.facts.device_leaf_sizes())
    }

    pub(super) fn is_degraded(&self) -> bool {
        let more = |measured: &Leaves| measured.total() > self.expected().total();
        self.broken || self.measured.is_some_and(more)
    }

    /// Whether leaves larger than a page were counted where no smaller ones were expected: the
    /// gate lets all sizes through or none, so it was open.
    pub(super) fn gate_was_open(&self) -> bool {
        let page = self.facts.leaf_sizes.base();
        let large = |leaves: &Leaves| leaves.iter().any(|(size, count)| size > page && count > 0);
        self.measured.is_some_and(large)
    }
}
