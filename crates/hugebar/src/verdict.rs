//! Verdicts: compare the measured leaves with the expected and the best possible ones.

use std::fmt;

use crate::leaf::{Bytes, Leaves};

/// The verdict on a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Verdict {
    /// As few leaves as at the best addresses.
    Optimal,
    /// More than the best, but no more than these addresses give on this kernel.
    AsExpected,
    /// More leaves than these addresses should give.
    Degraded,
    /// The leaves were not counted.
    Unmeasured,
}

impl Verdict {
    /// Compares the measured leaves with the best and the expected leaves of the same bytes.
    ///
    /// Inexact counts ([`Leaves::is_exact`]) are [`Verdict::Degraded`].
    ///
    /// ```
    /// use hugebar::{leaf::{leaves, LeafSizes, GIB}, verdict::Verdict};
    /// let x86 = LeafSizes::X86_64;
    /// let best = leaves(0, 0, GIB, &x86);
    /// let small = leaves(4096, 0, GIB, &x86);
    /// assert_eq!(Verdict::of(&best, &best, Some(&best)), Verdict::Optimal);
    /// assert_eq!(Verdict::of(&best, &small, Some(&small)), Verdict::AsExpected);
    /// assert_eq!(Verdict::of(&best, &best, Some(&small)), Verdict::Degraded);
    /// assert_eq!(Verdict::of(&best, &best, None), Verdict::Unmeasured);
    /// ```
    pub fn of(best: &Leaves, expected: &Leaves, measured: Option<&Leaves>) -> Self {
        // Inexact best or expected counts are too low, which makes neither answer wrong.
        match measured {
            None => Self::Unmeasured,
            Some(measured) if !measured.is_exact() => Self::Degraded,
            Some(measured) if measured.total() <= best.total() => Self::Optimal,
            Some(measured) if measured.total() <= expected.total() => Self::AsExpected,
            Some(_) => Self::Degraded,
        }
    }
}

/// Whether leaves of at least `size` map every `size`-aligned block of physical addresses that lies
/// whole in an area, and there is such a block.
///
/// `best` and `measured` are leaves of the same mapping; `size` is a leaf size. False if a count is
/// inexact.
///
/// ```
/// use hugebar::{leaf::{leaves, LeafSizes, GIB, MIB}, verdict::reaches};
/// let best = leaves(0, 0, GIB + MIB, &LeafSizes::X86_64);
/// assert!(reaches(&best, &best, GIB));
/// let small = leaves(2 * MIB, 0, GIB + MIB, &LeafSizes::X86_64);
/// assert!(!reaches(&best, &small, GIB) && reaches(&best, &small, 2 * MIB));
/// ```
pub fn reaches(best: &Leaves, measured: &Leaves, size: u64) -> bool {
    // Larger leaves of the best count as the blocks that they contain.
    let blocks = best.bytes_at_least(size);
    let exact = best.is_exact() && measured.is_exact();
    exact && blocks > 0 && measured.bytes_at_least(size) == blocks
}

/// A requirement for the leaves of a mapping.
///
/// ```
/// use hugebar::{leaf::{leaves, LeafSizes, GIB, MIB}, verdict::Requirement};
/// let (best, small) = (leaves(0, 0, MIB, &LeafSizes::X86_64), leaves(4096, 0, GIB, &LeafSizes::X86_64));
/// assert!(!Requirement::Size(GIB).concerns(&best) && Requirement::Optimal.concerns(&best));
/// assert!(Requirement::Optimal.is_met(&best, &best));
/// assert!(!Requirement::Optimal.is_met(&leaves(0, 0, GIB, &LeafSizes::X86_64), &small));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// As few as at the best addresses.
    Optimal,
    /// Leaves of at least this size, in bytes, wherever they fit ([`reaches`]).
    Size(u64),
}

impl Requirement {
    /// Whether it applies to a mapping with these best leaves: a size applies only if there is a block of it, because
    /// devices have small BARs as well.
    pub fn concerns(&self, best: &Leaves) -> bool {
        match *self {
            Self::Optimal => true,
            Self::Size(size) => best.bytes_at_least(size) > 0,
        }
    }

    /// Whether the leaves of a mapping meet it; `best` are its best leaves.
    pub fn is_met(&self, best: &Leaves, leaves: &Leaves) -> bool {
        match *self {
            Self::Optimal => Verdict::of(best, best, Some(leaves)) == Verdict::Optimal,
            Self::Size(size) => reaches(best, leaves, size),
        }
    }
}

/// `optimal`, `1 GiB leaves`.
impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Optimal => f.write_str("optimal"),
            Self::Size(size) => write!(f, "{} leaves", Bytes(*size)),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Optimal => "optimal",
            Self::AsExpected => "as-expected",
            Self::Degraded => "degraded",
            Self::Unmeasured => "unmeasured",
        })
    }
}
