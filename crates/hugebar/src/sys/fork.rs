//! Identifies this process, even after `fork`: the PID does not suffice, because a child in a new PID
//! namespace can have its parent's.
//!
//! Used when windows are made and dropped. Failures do no harm, so it does not go through the seam.

#![allow(unsafe_code, reason = "one of the modules that may: system calls")]

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use rustix::time::{ClockId, clock_gettime};

/// Identifies a process: different for any two processes, in particular for a parent and its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    id: u32,
    mark: u64,
}

/// Identifies the calling process (`getpid`, and a page that is wiped in children).
pub(crate) fn this_process() -> Process {
    Process {
        id: std::process::id(),
        mark: mark(),
    }
}

/// The content of this process's page: the time of the first call. 0 if there is no such
/// page (`MADV_WIPEONFORK` came with Linux 4.14), and the PID has to suffice.
fn mark() -> u64 {
    static PAGE: OnceLock<Option<&AtomicU64>> = OnceLock::new();
    let Some(mark) = PAGE.get_or_init(wiped_page) else {
        return 0;
    };
    // No two related processes make their first call in the same nanosecond; a child makes it after the fork.
    let now = clock_gettime(ClockId::Monotonic);
    let now = now
        .tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec);
    let now = now.unsigned_abs().max(1);
    match mark.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => now,
        Err(own) => own,
    }
}

/// A page that is mapped for good, and zeroed in a child (`madvise(MADV_WIPEONFORK)`).
fn wiped_page() -> Option<&'static AtomicU64> {
    let size = rustix::param::page_size();
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice, which replaces nothing.
    let page = unsafe { mmap_anonymous(ptr::null_mut(), size, access, MapFlags::PRIVATE) };
    let page = page.ok()?;
    // SAFETY: the mapping was just made, and no other code knows its address.
    unsafe { madvise(page, size, Advice::LinuxWipeOnFork) }.ok()?;
    // SAFETY: the page is mapped for reading and writing for good, aligned, zeroed, and only ever accessed
    // through this reference.
    Some(unsafe { AtomicU64::from_ptr(page.cast()) })
}
