//! The census: counts the leaves that the kernel actually installed, without privilege.
//!
//! From Linux 6.12 on, a leaf costs one minor fault of the thread that populates it, so populating one
//! page of each expected leaf counts them, and populating its other pages without a fault proves its size.
//! Earlier kernels fill the whole mapping with base pages at its first fault, which shows in the memory of its
//! page tables.
//!
//! The kernel also counts faults that have nothing to do with the mapping (another thread's `fork`, NUMA
//! balancing). A populated page never faults again, so they can only add.

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
    /// Populates at most this many bytes in base pages; `None` for no limit. Where leaves turn out to be base
    /// pages, every byte is populated. A GiB of 4 KiB pages takes 262,144 faults.
    pub limit: Option<u64>,
    /// Called before each step; `Break` ends the census with [`ErrorKind::Stopped`].
    pub progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

/// Populates a mapping and counts its leaves (`getrusage(RUSAGE_THREAD)` around each step).
///
/// Takes about four steps for each leaf of the expected size: one of its pages, chosen at random,
/// has to take a fault, and its last page and two more random ones none. The mapping must not have been
/// touched before: use [`Mapping::into_window`] to map it again.
///
/// # Errors
///
/// [`ErrorKind::AlreadyPopulated`] if leaves existed before; [`ErrorKind::Miscounted`] if, on a
/// kernel before huge leaves, other threads hide what was installed: map and count again;
/// [`ErrorKind::Stopped`]; [`ErrorKind::InvalidInput`] if the
/// mapping was planned without a leaf size that this kernel has; any error of populating.
pub fn census(
    mapping: &Mapping,
    facts: &Facts,
    populate: &mut dyn Populate,
    options: CensusOptions<'_>,
) -> Result<Census> {
    let sizes = *mapping.plan().sizes();
    let kernel_sizes = facts.device_leaf_sizes();
    if Leaves::none(&kernel_sizes).over(&sizes).is_none() {
        let operation =
            format!("planned for leaves of {sizes:?}, but the kernel has {kernel_sizes:?}");
        return Err(Error::new(ErrorKind::InvalidInput, operation));
    }
    let (page, machine) = (sizes.base(), process::page_size());
    if page != machine {
        let operation =
            format!("planned for pages of {page} bytes, but this machine has {machine}");
        return Err(Error::new(ErrorKind::InvalidInput, operation));
    }
    // Whole pages, and at least one, whatever the implementation returns.
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
        // If that is unknown, it first finds out which of the two it is.
        if facts.features().huge_device_leaves() == Some(true) {
            count.area(area, &sizes)?;
        } else {
            count.old_kernel(area, &sizes)?;
        }
    }
    Ok(count.result)
}
