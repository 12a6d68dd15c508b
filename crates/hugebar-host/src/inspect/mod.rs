//! Device mappings of running processes: which device they belong to, and which leaves they can have.
//!
//! `held` finds the VFIO files that a process has open or mapped, by device number (`nodes`). `resolve` finds the
//! device, region and offset of a mapping, and which `driver` handles its faults. `observed` holds what is known then;
//! `assess` derives the possible leaves, `why` gives the reasons for falling short, and `judge` compares the result with
//! the size of the process's page `tables`. [`Inspector`] runs all of it. [`watchers()`] finds the processes that have files
//! open whose reading removes leaves of others.

mod assess;
mod driver;
pub(crate) mod held;
pub(crate) mod holders;
mod inspector;
mod judge;
mod mapping;
pub(crate) mod nodes;
mod observed;
pub(crate) mod resolve;
mod tables;
mod watchers;
mod why;

pub use crate::procfs::Advice;
pub use inspector::Inspector;
pub use mapping::{Inspection, Judgement, Mapping, Process};
pub use watchers::{Watcher, watchers};
