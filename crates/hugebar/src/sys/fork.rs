//! Which process this is, also after `fork`: a number alone does not tell, for a child in a PID namespace of
//! its own can have its parent's.
//!
//! Asked when windows are made and dropped, and without any harm when it fails: so it does not pass the seam.

#![allow(unsafe_code, reason = "one of the modules that may: system calls")]

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use rustix::time::{ClockId, clock_gettime};

/// A process: no two have the same, a parent and its children least of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    id: u32,
    mark: u64,
}

/// The process that asks (`getpid`, and a page that children find wiped).
pub(crate) fn this_process() -> Process {
    Process {
        id: std::process::id(),
        mark: mark(),
    }
}

/// What this process has written into its page: the time when it first asked. 0 where there is no such
/// page (`MADV_WIPEONFORK` came with Linux 4.14), and the number has to do.
fn mark() -> u64 {
    static PAGE: OnceLock<Option<&AtomicU64>> = OnceLock::new();
    let Some(mark) = PAGE.get_or_init(wiped_page) else {
        return 0;
    };
    // No two processes of a family ask first in the same nanosecond; a child does after the fork.
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

/// A page that is there for good, and all zeroes in a child (`madvise(MADV_WIPEONFORK)`).
fn wiped_page() -> Option<&'static AtomicU64> {
    let size = rustix::param::page_size();
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping where the kernel likes, which replaces nothing.
    let page = unsafe { mmap_anonymous(ptr::null_mut(), size, access, MapFlags::PRIVATE) };
    let page = page.ok()?;
    // SAFETY: the mapping was made this moment, and nobody else knows of it.
    unsafe { madvise(page, size, Advice::LinuxWipeOnFork) }.ok()?;
    // SAFETY: the page is mapped for reading and writing for good, aligned, zeroed, and only ever accessed
    // through this reference.
    Some(unsafe { AtomicU64::from_ptr(page.cast()) })
}
