//! The device mappings of running processes: what they are of, and the leaves that they can have.
//!
//! `held` finds the files of VFIO that a process has open or mapped, by their device numbers (`nodes`), `resolve`
//! which device, region and offset a mapping is of, and by which `driver` its faults are handled. What is known then is
//! `observed`; `assess` says which leaves the mapping can have, `why` why not more, and `judge` what the size of the
//! process's page `tables` says to that. [`Inspector`] puts them together.

mod assess;
mod driver;
pub(crate) mod held;
mod inspector;
mod judge;
mod mapping;
pub(crate) mod nodes;
mod observed;
pub(crate) mod resolve;
mod tables;
mod why;

pub use crate::procfs::Advice;
pub use inspector::Inspector;
pub use mapping::{Inspection, Judgement, Mapping, Process};
