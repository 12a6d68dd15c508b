//! Memory of this process whose address never changes, for devices to reach.

use std::ptr::NonNull;

use rustix::mm::MapFlags;

use crate::error::{Error, ErrorKind, Result};
use crate::leaf::{Bytes, GIB, MIB};
use crate::sys::fork::{Process, this_process};
use crate::sys::{mm, process};

use super::to_usize;

/// Huge pages that the administrator has set aside (`hugetlbfs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HugePage {
    /// Pages of 2 MiB.
    Mib2,
    /// Pages of 1 GiB.
    Gib1,
}

impl HugePage {
    fn size(self) -> u64 {
        match self {
            Self::Mib2 => 2 * MIB,
            Self::Gib1 => GIB,
        }
    }

    fn flags(self) -> MapFlags {
        MapFlags::HUGETLB
            | match self {
                Self::Mib2 => MapFlags::HUGE_2MB,
                Self::Gib1 => MapFlags::HUGE_1GB,
            }
    }
}

/// Memory of this process's own, zeroed at first: readable and writable, not shared, and not inherited over fork.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<u8>,
    len: usize,
    process: Process,
}

// SAFETY: it owns its addresses, and hands out nothing but a pointer.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Anonymous memory of at least so many bytes (`mmap`, `madvise`), whole pages; from 2 MiB on with the hint for
    /// transparent huge pages.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`], [`ErrorKind::InvalidInput`] for no bytes.
    pub fn anonymous(bytes: u64) -> Result<Self> {
        let memory = Self::map(bytes, process::page_size(), MapFlags::empty())?;
        if bytes >= 2 * MIB {
            // SAFETY: a whole mapping of ours that nothing has touched. Refused where THP is not built in, and then
            // there are base pages.
            let _ = unsafe { mm::advise_huge(memory.start, memory.len) };
        }
        Ok(memory)
    }

    /// Memory of huge pages that were set aside (`mmap` with `MAP_HUGETLB`): whole ones, at least so many bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] where there are not enough of them, [`ErrorKind::InvalidInput`] for no bytes.
    pub fn huge_pages(bytes: u64, page: HugePage) -> Result<Self> {
        let size = page.size();
        Self::map(bytes, size, page.flags()).map_err(|error| {
            let pages = bytes.div_ceil(size);
            error.with_remedy(format!(
                "set {pages} pages of {} aside: \
                 /sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages, or hugepages= when booting",
                Bytes(size),
                size / 1024
            ))
        })
    }

    fn map(bytes: u64, page: u64, flags: MapFlags) -> Result<Self> {
        if bytes == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "memory of no bytes"));
        }
        let whole = bytes.checked_next_multiple_of(page).ok_or_else(|| {
            Error::new(
                ErrorKind::OutOfMemory,
                "more memory than there are addresses",
            )
        })?;
        let len = to_usize(whole)?;
        let start = mm::map_memory(len, flags).map_err(|errno| {
            let error = Error::call("mmap", errno);
            error.on(format!("{} of memory", Bytes(whole)))
        })?;
        let memory = Self {
            start,
            len,
            process: this_process(),
        };
        // SAFETY: a whole mapping of ours that nothing has touched.
        unsafe { mm::advise_dont_fork(memory.start, memory.len) }
            .map_err(|errno| Error::call("madvise", errno))?;
        Ok(memory)
    }

    /// Where it starts.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    /// How many bytes it has: whole pages.
    pub fn bytes(&self) -> u64 {
        self.len as u64
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A child after fork has not inherited it, and these addresses may be somebody else's there.
        if self.process == this_process() {
            // SAFETY: a whole mapping of ours, whose owner has no use for it any more. Where the kernel refuses it
            // stays.
            let _ = unsafe { mm::unmap(self.start, self.len) };
        }
    }
}
