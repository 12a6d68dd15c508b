//! Facts about this thread or process: faults, kernel release, THP, page size.

#![allow(unsafe_code, reason = "one of the modules that may: system calls")]

use core::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::io::{Errno, Result};

use super::seam;

/// `getrusage(RUSAGE_THREAD)`: the minor page faults of this thread so far.
pub(crate) fn minor_faults() -> Result<u64> {
    seam::call("getrusage", || {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the buffer is a `struct rusage`, which is what the call fills in.
        if unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) } != 0 {
            let error = std::io::Error::last_os_error();
            return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
        }
        // SAFETY: both all zeroes and the kernel's answer are a valid `struct rusage`.
        let usage = unsafe { usage.assume_init() };
        u64::try_from(usage.ru_minflt).map_err(|_| Errno::OVERFLOW)
    })
}

/// `uname(2)`: the kernel's release, as in `7.3.4+deb13-cloud-amd64`.
pub(crate) fn kernel_release() -> String {
    let name = rustix::system::uname();
    name.release().to_string_lossy().into_owned()
}

/// `prctl(PR_GET_THP_DISABLE)`: 0, or the flags that THP was disabled with plus one.
pub(crate) fn thp_disabled() -> Result<u32> {
    seam::call("prctl", || {
        let none: libc::c_ulong = 0;
        // SAFETY: the request takes four zeroes and changes nothing.
        let answer = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, none, none, none, none) };
        u32::try_from(answer).map_err(|_| {
            let error = std::io::Error::last_os_error();
            Errno::from_io_error(&error).unwrap_or(Errno::INVAL)
        })
    })
}

/// `prctl(PR_SET_THP_DISABLE)`: disables transparent huge pages, if `on`, with these flags, or enables them again.
pub(crate) fn set_thp_disabled(on: bool, flags: u32) -> Result<()> {
    seam::call("prctl", || {
        let (on, flags) = (libc::c_ulong::from(on), libc::c_ulong::from(flags));
        let none: libc::c_ulong = 0;
        // SAFETY: the request takes four numbers, and only changes the use of huge pages.
        let answer = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, flags, none, none) };
        if answer == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
    })
}

/// `getrlimit(RLIMIT_MEMLOCK)`: how many bytes this process may lock; `None` if there is no limit.
pub(crate) fn locked_memory_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Memlock).current
}

/// `fcntl(fd, F_SETFD, FD_CLOEXEC)`.
pub(crate) fn close_on_exec(fd: BorrowedFd<'_>) -> Result<()> {
    seam::call("fcntl", || {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)
    })
}

/// Whether the CPU has 1 GiB pages (`pdpe1gb`: CPUID 0x8000_0001, EDX bit 26). Uses CPUID
/// because a jail may have no `/proc`.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_gib_pages() -> bool {
    use core::arch::x86_64::__cpuid;
    #[allow(unused_unsafe, reason = "safe since Rust 1.92")]
    // SAFETY: every x86-64 CPU has CPUID and its extended leaves.
    let features = unsafe { __cpuid(0x8000_0001) };
    features.edx & (1 << 26) != 0
}

/// The page size in bytes, from the auxiliary vector.
pub(crate) fn page_size() -> u64 {
    rustix::param::page_size() as u64
}
