//! What a census says, in the end and on its way.

use std::time::Duration;

use crate::leaf::Leaves;
use crate::verdict::Verdict;

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// The leaves found, by size.
    pub measured: Leaves,
    /// The leaves that the bytes counted should have at their addresses on this kernel.
    pub expected: Leaves,
    /// Minor faults while populating.
    pub faults: u64,
    /// How long the kernel took to populate.
    pub elapsed: Duration,
    /// Whether all of the mapping was counted, and not only up to the limit.
    pub complete: bool,
    /// Whether some leaf turned out to be smaller than expected, be it counted or beyond the limit.
    pub broken: bool,
}

impl Census {
    /// The verdict on the mapping, of which `best` and `expected` are the leaves.
    ///
    /// What a limit left out is taken to be as expected.
    pub fn verdict(&self, best: &Leaves, expected: &Leaves) -> Verdict {
        if self.complete {
            Verdict::of(best, expected, Some(&self.measured))
        } else if self.broken || self.measured.total() > self.expected.total() {
            Verdict::Degraded
        } else if self.measured.total() == 0 {
            Verdict::Unmeasured
        } else {
            Verdict::of(best, expected, Some(expected))
        }
    }
}

/// How far a census has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes counted.
    pub done: u64,
    /// Bytes of the mapping.
    pub total: u64,
}
