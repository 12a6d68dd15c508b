//! Measures what mapping a BAR costs with each placement, on the device itself: several rounds, in which sizes and placements
//! take turns.
//!
//! Nothing is extrapolated: what would take too long is left out, and the result says so.

mod budget;
mod decode;
mod machine;
mod sample;
mod series;
mod spread;
mod steady;
mod together;

pub use machine::Machine;
pub use sample::Sample;
pub use series::{LeftOut, Measured, Series, bar};
pub use spread::Spread;
pub use together::{Together, together};

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use hugebar::facts::Facts;
use hugebar::layout::Area;
use hugebar::mem::Hint;
use hugebar::plan::Placement;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Step {
    /// Choosing addresses, reserving and mapping.
    Map,
    /// Having the kernel install the leaves, one page for each ([`hugebar::populate::present`]).
    Present,
    /// The same after memory decode was off, which removes all leaves.
    PresentAgain,
    /// Mapping the whole into the device's address space for peer-to-peer DMA, when no leaf is there yet.
    DmaMap,
    /// Removing that again. The kernel (type1) walks every base page, whatever the leaves.
    DmaUnmap,
    /// Unmapping from the process.
    Unmap,
}

impl Step {
    /// All of them, in the order in which they are done.
    pub const ALL: [Self; 6] = [
        Self::Map,
        Self::Present,
        Self::PresentAgain,
        Self::DmaMap,
        Self::DmaUnmap,
        Self::Unmap,
    ];

    fn index(self) -> usize {
        self as usize
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Facts about machine, kernel and process.
    pub facts: &'a Facts,
    /// The placements, in the order of the first round.
    pub placements: Vec<Placement>,
    /// The hint for huge pages.
    pub hint: Hint,
    /// Lengths of prefixes of the BAR in bytes, ascending; what is longer than the BAR is ignored.
    pub sizes: Vec<u64>,
    /// Parts of the BAR to leave out.
    pub holes: Vec<Area>,
    /// How many rounds.
    pub rounds: u32,
    /// When to begin nothing more that would end later. Of the time until then, each placement has an equal share.
    pub deadline: Option<Instant>,
    /// How many bytes of base pages a mapping may have; `None` for no limit.
    pub limit: Option<u64>,
    /// Whether to make it present, and count the leaves.
    pub present: bool,
    /// Whether to map the whole for DMA.
    pub dma: bool,
}

/// How far a benchmark has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Mappings that were measured or left out.
    pub done: u64,
    /// All of them.
    pub total: u64,
}

/// Called before each step in the kernel; `Break` ends the benchmark, which returns what it has measured.
pub type Watch<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// The time that something takes.
fn timed<T>(body: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = body();
    (result, begin.elapsed())
}
