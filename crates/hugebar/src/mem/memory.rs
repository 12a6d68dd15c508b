//! Memory at fixed addresses, for devices to reach.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};

use crate::error::{Error, ErrorKind, Result};
use crate::leaf::{Bytes, GIB, MIB};
use crate::sys::fork::{Process, this_process};
use crate::sys::{file, mm, process};

use super::to_usize;

/// Huge pages that the administrator has reserved (`hugetlbfs`).
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

    fn file_flags(self) -> MemfdFlags {
        MemfdFlags::HUGETLB
            | match self {
                Self::Mib2 => MemfdFlags::HUGE_2MB,
                Self::Gib1 => MemfdFlags::HUGE_1GB,
            }
    }

    /// What to do if there are too few of them.
    fn remedy(self, bytes: u64) -> String {
        let size = self.size();
        let pages = bytes.div_ceil(size);
        format!(
            "reserve {pages} pages of {}: /sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages, or hugepages= when \
             booting",
            Bytes(size),
            size / 1024
        )
    }

    fn flags(self) -> MapFlags {
        MapFlags::HUGETLB
            | match self {
                Self::Mib2 => MapFlags::HUGE_2MB,
                Self::Gib1 => MapFlags::HUGE_1GB,
            }
    }
}

/// Initially zeroed memory at fixed addresses: readable, writable, and not inherited over fork.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<u8>,
    len: usize,
    /// Its file, if other processes may map it too.
    file: Option<OwnedFd>,
    process: Process,
}

// SAFETY: it owns its addresses, and hands out only a pointer.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Allocates at least `bytes` of anonymous memory (`mmap`, `madvise`), in whole pages; from 2 MiB on with the hint for
    /// transparent huge pages.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`], [`ErrorKind::InvalidInput`] for no bytes.
    pub fn anonymous(bytes: u64) -> Result<Self> {
        let memory = Self::map(bytes, process::page_size(), MapFlags::empty())?;
        if bytes >= 2 * MIB {
            // SAFETY: a whole mapping of ours that nothing has touched. The kernel refuses without THP, and then uses
            // base pages.
            let _ = unsafe { mm::advise_huge(memory.start, memory.len) };
        }
        Ok(memory)
    }

    /// Allocates at least `bytes` from reserved huge pages (`mmap` with `MAP_HUGETLB`), in whole huge pages.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if there are not enough of them, [`ErrorKind::InvalidInput`] for no bytes.
    pub fn huge_pages(bytes: u64, page: HugePage) -> Result<Self> {
        let memory = Self::map(bytes, page.size(), page.flags());
        memory.map_err(|error| error.with_remedy(page.remedy(bytes)))
    }

    /// Memory that other processes can map as well (`memfd_create`), by the descriptor of [`Memory::file`]. Its size is
    /// sealed. With `page` it consists of reserved huge pages.
    ///
    /// ```
    /// use hugebar::mem::Memory;
    /// let memory = Memory::shared(1 << 20, None)?;
    /// let file = memory.file().expect("shared memory has a file");
    /// # let _ = file;
    /// # Ok::<(), hugebar::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Memory::anonymous`] and [`Memory::huge_pages`].
    pub fn shared(bytes: u64, page: Option<HugePage>) -> Result<Self> {
        let base = process::page_size();
        let whole = whole(bytes, page.map_or(base, HugePage::size))?;
        let kind = page.map_or(MemfdFlags::empty(), HugePage::file_flags);
        let refused = |name: &'static str| {
            move |errno| {
                let error = Error::call(name, errno).on(format!("{} of memory", Bytes(whole)));
                match page {
                    Some(page) => error.with_remedy(page.remedy(bytes)),
                    None => error,
                }
            }
        };
        let file = file::memory_file("dma", kind | MemfdFlags::ALLOW_SEALING);
        let file = file.map_err(refused("memfd_create"))?;
        file::resize(file.as_fd(), whole).map_err(refused("ftruncate"))?;
        file::seal_size(file.as_fd()).map_err(refused("fcntl"))?;
        let len = to_usize(whole)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let source = mm::Source {
            fd: file.as_fd(),
            offset: 0,
        };
        let start = mm::map_anywhere(len, access, source).map_err(refused("mmap"))?;
        Self::own(start, len, Some(file))
    }

    fn map(bytes: u64, page: u64, flags: MapFlags) -> Result<Self> {
        let whole = whole(bytes, page)?;
        let len = to_usize(whole)?;
        let start = mm::map_memory(len, flags).map_err(|errno| {
            let error = Error::call("mmap", errno);
            error.on(format!("{} of memory", Bytes(whole)))
        })?;
        Self::own(start, len, None)
    }

    /// Takes over a mapping that was made just now.
    fn own(start: NonNull<u8>, len: usize, file: Option<OwnedFd>) -> Result<Self> {
        let memory = Self {
            start,
            len,
            file,
            process: this_process(),
        };
        // SAFETY: a whole mapping of ours that nothing has touched.
        unsafe { mm::advise_dont_fork(memory.start, memory.len) }
            .map_err(|errno| Error::call("madvise", errno))?;
        Ok(memory)
    }

    /// The memory's file, for other processes to map; `None` unless it is [`Memory::shared`].
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// The address of its first byte.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    /// Its length in bytes: whole pages.
    pub fn bytes(&self) -> u64 {
        self.len as u64
    }
}

/// Whole pages of at least so many bytes.
fn whole(bytes: u64, page: u64) -> Result<u64> {
    if bytes == 0 {
        return Err(Error::new(ErrorKind::InvalidInput, "memory of no bytes"));
    }
    bytes.checked_next_multiple_of(page).ok_or_else(|| {
        let operation = "memory larger than the address space";
        Error::new(ErrorKind::OutOfMemory, operation)
    })
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A child after fork has not inherited it, and may use these addresses for something else.
        if self.process == this_process() {
            // SAFETY: a whole mapping of ours that its owner no longer uses. If the kernel refuses, it
            // stays.
            let _ = unsafe { mm::unmap(self.start, self.len) };
        }
    }
}
