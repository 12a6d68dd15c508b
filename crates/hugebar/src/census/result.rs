//! Result and progress of a census.

use std::time::Duration;

use crate::leaf::Leaves;
use crate::verdict::Verdict;

/// The result of a census.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// The leaves found, by size.
    pub measured: Leaves,
    /// The leaves that the counted bytes should have at their addresses on this kernel.
    pub expected: Leaves,
    /// Minor faults while populating.
    pub faults: u64,
    /// How long the kernel took to populate.
    pub elapsed: Duration,
    /// Whether the whole mapping was counted, not only up to the limit.
    pub complete: bool,
    /// Whether some leaf turned out to be smaller than expected, counted or beyond the limit.
    pub broken: bool,
}

impl Census {
    /// The verdict on a mapping with these best and expected leaves.
    ///
    /// Assumes that the part beyond a limit is as expected.
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

/// The progress of a census.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes counted.
    pub done: u64,
    /// Bytes of the mapping.
    pub total: u64,
}
