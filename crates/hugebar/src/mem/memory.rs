//! Memory of this process whose address never changes, for devices to reach.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};

use crate::error::{Error, ErrorKind, Result};
use crate::leaf::{Bytes, GIB, MIB};
use crate::sys::fork::{Process, this_process};
use crate::sys::{file, mm, process};

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

    fn file_flags(self) -> MemfdFlags {
        MemfdFlags::HUGETLB
            | match self {
                Self::Mib2 => MemfdFlags::HUGE_2MB,
                Self::Gib1 => MemfdFlags::HUGE_1GB,
            }
    }

    /// What to do where there are too few of them.
    fn remedy(self, bytes: u64) -> String {
        let size = self.size();
        let pages = bytes.div_ceil(size);
        format!(
            "set {pages} pages of {} aside: /sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages, or hugepages= when \
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

/// Memory whose address never changes, zeroed at first, readable and writable. Children do not inherit it over fork.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<u8>,
    len: usize,
    /// The file that it is of, where other processes may map it too.
    file: Option<OwnedFd>,
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
        let memory = Self::map(bytes, page.size(), page.flags());
        memory.map_err(|error| error.with_remedy(page.remedy(bytes)))
    }

    /// Memory that other processes can map as well (`memfd_create`): [`Memory::file`] is what to hand over. Its size is
    /// sealed. `page` makes it one of huge pages that were set aside.
    ///
    /// ```
    /// use hugebar::mem::Memory;
    /// let memory = Memory::shared(1 << 20, None)?;
    /// let file = memory.file().expect("it is one of a file");
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
        let file = file::memory_file("dma", whole, kind | MemfdFlags::ALLOW_SEALING);
        let file = file.map_err(refused("memfd_create"))?;
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

    /// The file that it is of, for other processes to map; `None` for memory that is not [`Memory::shared`].
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
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

/// Whole pages of at least so many bytes.
fn whole(bytes: u64, page: u64) -> Result<u64> {
    if bytes == 0 {
        return Err(Error::new(ErrorKind::InvalidInput, "memory of no bytes"));
    }
    bytes.checked_next_multiple_of(page).ok_or_else(|| {
        let operation = "more memory than there are addresses";
        Error::new(ErrorKind::OutOfMemory, operation)
    })
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
