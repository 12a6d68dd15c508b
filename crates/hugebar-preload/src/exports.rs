//! The functions that programs call instead of libc's.

#![allow(unsafe_code, reason = "the border to preloaded programs")]
#![cfg(not(test))]

use core::ffi::{c_int, c_void};

use crate::call::Request;
use crate::map;
use crate::start::{MMAP, MMAP64, Next};

/// `mmap` of the program.
///
/// # Safety
///
/// As `mmap`.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: the caller's contract.
    unsafe { go(&MMAP, address, length, protection, flags, fd, offset) }
}

/// `mmap64` of the program.
///
/// # Safety
///
/// As `mmap`.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap64(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: the caller's contract.
    unsafe { go(&MMAP64, address, length, protection, flags, fd, offset) }
}

#[inline(always)]
unsafe fn go(
    next: &Next,
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    let request = Request {
        address: address as usize,
        length,
        protection,
        flags,
        fd,
        offset,
    };
    if map::concerns(&request) {
        // SAFETY: the caller's contract.
        unsafe { map::with_care(next, &request) }
    } else {
        // SAFETY: the caller's contract.
        unsafe { next.map(&request) }
    }
}
