//! Takes devices from their drivers for VFIO, and gives them back; creates virtual functions, and resizes BARs.
//!
//! [`bind`], [`restore`], [`set_virtual_functions`] and [`resize()`] look at a function and return a [`Plan`]: what the
//! function is in use for, and the steps. Nothing
//! is changed before [`Plan::run`]. What a function had before is remembered in `/run/hugebar` ahead of the first change,
//! so that a process may be killed at any point.

mod binding;
mod child;
mod error;
mod failed;
#[cfg(test)]
mod fake;
mod lasting;
mod numvfs;
mod options;
mod owner;
mod plan;
mod record;
mod resize;
mod set_size;
mod sriov;
mod step;
mod tree;
mod uses;
mod way;

pub use binding::{bind, members, restore};
pub use error::{Error, ErrorKind};
pub use lasting::{Lasting, lasting};
pub use options::Options;
pub use owner::Owner;
pub use plan::Plan;
pub use record::Record;
pub use resize::{BarSizes, PossibleSize, bar_sizes, resize};
pub use sriov::{VirtualFunctions, set_virtual_functions, virtual_functions};
pub use step::Step;
pub use uses::{Use, uses};
