//! System calls without libc, which therefore leave `errno` alone.

#![allow(unsafe_code, reason = "the border to preloaded programs")]

use core::arch::asm;
use core::ffi::{c_char, c_int, c_long};
use core::mem::MaybeUninit;

/// Makes a system call; its error is an errno.
///
/// # Safety
///
/// As the call.
unsafe fn call(number: c_long, arguments: [usize; 6]) -> Result<usize, c_int> {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's contract. The kernel changes only these registers.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack, preserves_flags)
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the caller's contract. The kernel changes only this register.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            in("x5") f,
            options(nostack, preserves_flags)
        );
    }
    // The kernel returns the negated errno, which is below 4096.
    if (-4095..0).contains(&result) {
        return Err((-result) as c_int);
    }
    Ok(result as usize)
}

/// What a program asks `mmap` for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) address: usize,
    pub(crate) length: usize,
    pub(crate) protection: c_int,
    pub(crate) flags: c_int,
    pub(crate) fd: c_int,
    pub(crate) offset: i64,
}

/// `mmap`.
///
/// # Safety
///
/// As `mmap`: with `MAP_FIXED` it replaces what is there.
pub(crate) unsafe fn mmap(request: &Request) -> Result<usize, c_int> {
    let arguments = [
        request.address,
        request.length,
        request.protection as usize,
        request.flags as usize,
        request.fd as usize,
        request.offset as usize,
    ];
    // SAFETY: the caller's contract.
    unsafe { call(libc::SYS_mmap, arguments) }
}

/// `munmap`.
///
/// # Safety
///
/// The range must be a mapping of our own that nothing uses.
pub(crate) unsafe fn munmap(address: usize, length: usize) -> Result<(), c_int> {
    // SAFETY: the caller's contract.
    unsafe { call(libc::SYS_munmap, [address, length, 0, 0, 0, 0]) }.map(drop)
}

/// `madvise(MADV_HUGEPAGE)`. Kernels without transparent huge pages refuse it, which changes nothing.
pub(crate) fn hint(address: usize, length: usize) {
    let advice = libc::MADV_HUGEPAGE as usize;
    // SAFETY: the advice changes no content.
    let _ = unsafe { call(libc::SYS_madvise, [address, length, advice, 0, 0, 0]) };
}

/// `fstat`.
pub(crate) fn fstat(fd: c_int) -> Option<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    let arguments = [fd as usize, stat.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: on these architectures libc's structure is the kernel's, which the call fills in.
    unsafe { call(libc::SYS_fstat, arguments) }.ok()?;
    // SAFETY: both all zeroes and the kernel's answer are a valid structure.
    Some(unsafe { stat.assume_init() })
}

/// `readlink`, or `readlinkat` where that is the only one: the target, or as much of it as fits into the buffer.
///
/// # Safety
///
/// The path must end with a zero.
pub(crate) unsafe fn read_link(path: *const c_char, into: &mut [u8]) -> Option<&[u8]> {
    let (path, buffer, size) = (path as usize, into.as_mut_ptr() as usize, into.len());
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel reads the caller's path, and writes at most `size` bytes to the buffer.
    let length = unsafe { call(libc::SYS_readlink, [path, buffer, size, 0, 0, 0]) };
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the kernel reads the caller's path, and writes at most `size` bytes to the buffer.
    let length = unsafe {
        let here = libc::AT_FDCWD as usize;
        call(libc::SYS_readlinkat, [here, path, buffer, size, 0, 0])
    };
    into.get(..length.ok()?)
}

/// `openat`; a new file is the user's alone.
///
/// # Safety
///
/// The path must end with a zero.
pub(crate) unsafe fn open(path: *const c_char, flags: c_int) -> Option<c_int> {
    let (here, path, mode) = (libc::AT_FDCWD as usize, path as usize, 0o600);
    // SAFETY: the kernel reads the caller's path.
    let fd = unsafe { call(libc::SYS_openat, [here, path, flags as usize, mode, 0, 0]) };
    fd.ok().map(|fd| fd as c_int)
}

/// `read`: the part of the buffer that was read.
pub(crate) fn read(fd: c_int, into: &mut [u8]) -> Option<usize> {
    let arguments = [fd as usize, into.as_mut_ptr() as usize, into.len(), 0, 0, 0];
    // SAFETY: the kernel writes into the buffer.
    unsafe { call(libc::SYS_read, arguments) }.ok()
}

/// `write`, once.
pub(crate) fn write(fd: c_int, text: &[u8]) {
    let arguments = [fd as usize, text.as_ptr() as usize, text.len(), 0, 0, 0];
    // SAFETY: the kernel reads the text.
    let _ = unsafe { call(libc::SYS_write, arguments) };
}

/// `close`, for a descriptor that [`open`] has returned.
pub(crate) fn close(fd: c_int) {
    // SAFETY: the caller has opened it, and nobody else uses it.
    let _ = unsafe { call(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// The calling thread's `errno`.
pub(crate) fn errno() -> c_int {
    // SAFETY: libc returns the address of the thread's own variable.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *errno }
}

/// Sets the calling thread's `errno`.
pub(crate) fn set_errno(value: c_int) {
    // SAFETY: libc returns the address of the thread's own variable.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *errno = value }
}
