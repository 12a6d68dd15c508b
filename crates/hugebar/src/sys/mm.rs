//! Address space: `mmap`, `munmap`, `madvise`.

#![allow(unsafe_code, reason = "one of the modules that may: system calls")]

use core::ptr::{self, NonNull};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, Result};
use rustix::mm::{self, Advice, MapFlags, ProtFlags};

use super::seam;

/// A file, and the offset at which a mapping starts.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) offset: u64,
}

/// `mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)`: reserves addresses, with
/// nothing mapped there.
pub(crate) fn reserve(len: usize) -> Result<NonNull<u8>> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let address = seam::call("mmap", || {
        // SAFETY: without MAP_FIXED the kernel chooses addresses that were free.
        unsafe { mm::mmap_anonymous(ptr::null_mut(), len, ProtFlags::empty(), flags) }
    })?;
    NonNull::new(address.cast()).ok_or(Errno::NOMEM)
}

/// `mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS…)`: memory, zeroed. `more` is `MAP_HUGETLB`
/// with a page size, or nothing.
pub(crate) fn map_memory(len: usize, more: MapFlags) -> Result<NonNull<u8>> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let address = seam::call("mmap", || {
        // SAFETY: without MAP_FIXED the kernel chooses addresses that were free.
        unsafe { mm::mmap_anonymous(ptr::null_mut(), len, access, MapFlags::PRIVATE | more) }
    })?;
    NonNull::new(address.cast()).ok_or(Errno::NOMEM)
}

/// `mmap(NULL, len, prot, MAP_SHARED, fd, offset)`: a mapping at an address of the kernel's choice.
pub(crate) fn map_anywhere(
    len: usize,
    protection: ProtFlags,
    source: Source<'_>,
) -> Result<NonNull<u8>> {
    let address = seam::call("mmap", || {
        // SAFETY: without MAP_FIXED the kernel chooses addresses that were free.
        unsafe {
            mm::mmap(
                ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                source.fd.as_fd(),
                source.offset,
            )
        }
    })?;
    NonNull::new(address.cast()).ok_or(Errno::NOMEM)
}

/// `mmap(address, len, prot, MAP_SHARED | MAP_FIXED, fd, offset)`: a mapping that replaces everything
/// at these addresses.
///
/// If it fails, the kernel (6.12 to 7.3) may already have unmapped the old content. Another thread may take
/// that gap, so it must not be unmapped again.
///
/// # Safety
///
/// `[address, address + len)` must be page-aligned, belong to the caller, and hold nothing that is
/// in use. The file must not be of huge pages ([`super::file::is_hugetlb`]): the kernel makes the length
/// a multiple of theirs before it replaces what is there.
pub(crate) unsafe fn map_over(
    address: NonNull<u8>,
    len: usize,
    protection: ProtFlags,
    source: Source<'_>,
) -> Result<()> {
    // SAFETY: the caller's contract.
    let gap = || unsafe { leave_gap(address, len) };
    seam::call_or_harm("mmap", gap, || {
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        let fd = source.fd.as_fd();
        // SAFETY: the caller's contract.
        unsafe {
            mm::mmap(
                address.as_ptr().cast(),
                len,
                protection,
                flags,
                fd,
                source.offset,
            )
        }
    })
    .map(drop)
}

/// What a reservation does with an existing mapping at its addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Replaces it (`MAP_FIXED`).
    Replace,
    /// Leaves it there and fails (`MAP_FIXED_NOREPLACE`).
    Keep,
}

/// `mmap(address, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED…)`: a reservation at given
/// addresses.
///
/// # Safety
///
/// For [`Existing::Replace`] as for [`map_over`]; [`Existing::Keep`] needs only page alignment.
pub(crate) unsafe fn reserve_at(
    address: NonNull<u8>,
    len: usize,
    existing: Existing,
) -> Result<()> {
    let how = match existing {
        Existing::Replace => MapFlags::FIXED,
        Existing::Keep => MapFlags::FIXED_NOREPLACE,
    };
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | how;
    let target = address.as_ptr().cast();
    let gap = || {
        if existing == Existing::Replace {
            // SAFETY: the caller's contract.
            unsafe { leave_gap(address, len) }
        }
    };
    let got = seam::call_or_harm("mmap", gap, || {
        // SAFETY: the caller's contract.
        unsafe { mm::mmap_anonymous(target, len, ProtFlags::empty(), flags) }
    })?;
    if got != target {
        // Before 4.17 the flag is unknown and the address only a hint.
        // SAFETY: the kernel has just made this mapping for us, elsewhere.
        unsafe { unmap(NonNull::new(got.cast()).ok_or(Errno::EXIST)?, len) }?;
        return Err(Errno::EXIST);
    }
    Ok(())
}

/// What a failing `MAP_FIXED` does before it returns.
///
/// # Safety
///
/// As for [`map_over`].
unsafe fn leave_gap(address: NonNull<u8>, len: usize) {
    // SAFETY: the caller's contract. If it fails, there is no gap.
    let _ = unsafe { mm::munmap(address.as_ptr().cast(), len) };
}

/// `munmap(address, len)`.
///
/// # Safety
///
/// `[address, address + len)` must be page-aligned, belong to the caller, and hold nothing that is
/// in use. An edge must not lie inside a populated mapping of a device: the kernel (6.12 to 7.3)
/// mistakes a 1 GiB leaf that it has to split for a table, and oopses.
pub(crate) unsafe fn unmap(address: NonNull<u8>, len: usize) -> Result<()> {
    seam::call("munmap", || {
        // SAFETY: the caller's contract.
        unsafe { mm::munmap(address.as_ptr().cast(), len) }
    })
}

/// `madvise(MADV_HUGEPAGE)`: the hint without which some kernels give small leaves (kernels 6.12 to
/// 6.18 with the THP policy `madvise`).
///
/// # Safety
///
/// The range must be one whole mapping of the caller's that nothing has populated yet.
pub(crate) unsafe fn advise_huge(address: NonNull<u8>, len: usize) -> Result<()> {
    // SAFETY: the caller's contract; the advice changes no content.
    unsafe { advise(address, len, Advice::LinuxHugepage) }
}

/// `madvise(MADV_NOHUGEPAGE)`: base pages only, on every kernel and under every THP policy.
///
/// # Safety
///
/// As for [`advise_huge`].
pub(crate) unsafe fn advise_no_huge(address: NonNull<u8>, len: usize) -> Result<()> {
    // SAFETY: the caller's contract; the advice changes no content.
    unsafe { advise(address, len, Advice::LinuxNoHugepage) }
}

/// `madvise(MADV_DONTFORK)`: children do not inherit the mapping.
///
/// # Safety
///
/// As for [`advise_huge`].
pub(crate) unsafe fn advise_dont_fork(address: NonNull<u8>, len: usize) -> Result<()> {
    // SAFETY: the caller's contract; the advice changes no content of this process.
    unsafe { advise(address, len, Advice::LinuxDontFork) }
}

/// # Safety
///
/// As for [`advise_huge`].
unsafe fn advise(address: NonNull<u8>, len: usize, advice: Advice) -> Result<()> {
    seam::call("madvise", || {
        // SAFETY: the caller's contract.
        unsafe { mm::madvise(address.as_ptr().cast(), len, advice) }
    })
}
