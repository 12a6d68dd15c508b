//! The device mappings of running processes: what they are of, and the leaves that they can have.
//!
//! `held` finds the files of VFIO that a process has open or mapped, by their device numbers (`nodes`), `resolve`
//! which device, region and offset a mapping is of, and `assess` the leaves that it can have there and why not
//! more. [`Inspector`] puts them together.

pub(crate) mod assess;
pub(crate) mod held;
mod inspector;
mod mapping;
pub(crate) mod nodes;
pub(crate) mod resolve;

pub use crate::procfs::Advice;
pub use inspector::Inspector;
pub use mapping::{Inspection, Mapping, Process};
