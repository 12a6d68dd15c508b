//! The census: counts the leaves that the kernel really installed, without privilege.
//!
//! From Linux 6.12 a leaf costs one minor fault of the thread that populates it, so populating one
//! page of each expected leaf counts them, and populating other pages of it without a fault proves its size.
//! Before, the first fault of a mapping fills all of it with base pages, which shows in the memory of its
//! page tables.
//!
//! Faults that have nothing to do with the mapping (another thread's `fork`, NUMA balancing) are counted by
//! the kernel as well. A page that was populated never faults again, so they can only add.

mod count;
mod filled;
mod probe;
mod result;

pub use result::{Census, Progress};

use std::ops::ControlFlow;

use crate::error::{Error, ErrorKind, Result};
use crate::facts::Facts;
use crate::leaf::Leaves;
use crate::mem::Mapping;
use crate::populate::Populate;
use crate::sys::process;

/// How a census is taken.
pub struct CensusOptions<'a> {
    /// At most this many bytes are populated in pages, as every byte is whose leaf turns out to be
    /// one; `None` for no limit. A GiB of pages takes a million faults.
    pub limit: Option<u64>,
    /// Told before each step; `Break` ends the census with [`ErrorKind::Stopped`].
    pub progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

/// Populates a mapping and counts its leaves (`getrusage(RUSAGE_THREAD)` around each step).
///
/// Takes about four steps for each leaf that comes out as expected: one of its pages that nobody can
/// foresee has to take a fault, and its ends and another such page none. The mapping must not have been
/// touched before: use [`Mapping::into_window`] to map it anew.
///
/// # Errors
///
/// [`ErrorKind::AlreadyPopulated`] when leaves were there before; [`ErrorKind::Miscounted`] when, on a
/// kernel before huge leaves, other threads hide what was installed: map anew and count again;
/// [`ErrorKind::Stopped`]; [`ErrorKind::InvalidInput`] when the
/// mapping was planned without a leaf size that this kernel has; whatever populating says.
pub fn census(
    mapping: &Mapping,
    facts: &Facts,
    populate: &mut dyn Populate,
    options: CensusOptions<'_>,
) -> Result<Census> {
    let sizes = *mapping.plan().sizes();
    let kernel_sizes = facts.device_leaf_sizes();
    if Leaves::none(&kernel_sizes).over(&sizes).is_none() {
        let operation = format!("planned for leaves of {sizes:?}, the kernel has {kernel_sizes:?}");
        return Err(Error::new(ErrorKind::InvalidInput, operation));
    }
    let (page, machine) = (sizes.base(), process::page_size());
    if page != machine {
        let operation = format!("planned for pages of {page} bytes, this machine has {machine}");
        return Err(Error::new(ErrorKind::InvalidInput, operation));
    }
    // Whole pages, and one at least, whatever the implementation says.
    let longest = (populate.longest() / page).max(1) * page;
    let CensusOptions { limit, progress } = options;
    let mut count = count::Count::new(
        mapping,
        kernel_sizes,
        longest,
        &mut *populate,
        limit,
        &mut *progress,
    );
    count.warm_up(page)?;
    for area in mapping.areas() {
        // Where that is not known, it looks first which of the two it is.
        if facts.features().huge_device_leaves() == Some(true) {
            count.area(area, &sizes)?;
        } else {
            count.old_kernel(area, &sizes)?;
        }
    }
    Ok(count.result)
}
