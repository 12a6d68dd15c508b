//! What happens when the library is loaded: it finds the `mmap` after its own, VFIO's device number, and where to
//! report.

#![allow(unsafe_code, reason = "the border to preloaded programs")]

use core::ffi::{c_int, c_void};
use core::mem;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::call::{self, Request};
use crate::{device, report};

/// libc's `mmap`, or that of another preloaded library.
pub(crate) static MMAP: Next = Next::unknown();
/// `mmap64`, in the same way.
pub(crate) static MMAP64: Next = Next::unknown();

/// The `mmap` that comes after ours.
pub(crate) struct Next(AtomicPtr<c_void>);

type Function = unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, c_int, i64) -> *mut c_void;

impl Next {
    pub(crate) const fn unknown() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Calls it, or the kernel as long as it is unknown: constructors of other libraries may run before ours.
    ///
    /// # Safety
    ///
    /// As `mmap`.
    #[inline(always)]
    pub(crate) unsafe fn map(&self, request: &Request) -> *mut c_void {
        let next = self.0.load(Ordering::Relaxed);
        if next.is_null() {
            // SAFETY: the caller's contract.
            return unsafe { by_the_kernel(request) };
        }
        // SAFETY: `dlsym` has found a function of this name, which has this type in every libc.
        let next = unsafe { mem::transmute::<*mut c_void, Function>(next) };
        let Request {
            address,
            length,
            protection,
            flags,
            fd,
            offset,
        } = *request;
        let address = address as *mut c_void;
        // SAFETY: the caller's contract.
        unsafe { next(address, length, protection, flags, fd, offset) }
    }
}

/// # Safety
///
/// As `mmap`.
#[cold]
unsafe fn by_the_kernel(request: &Request) -> *mut c_void {
    // SAFETY: the caller's contract.
    match unsafe { call::mmap(request) } {
        Ok(address) => address as *mut c_void,
        Err(errno) => {
            call::set_errno(errno);
            libc::MAP_FAILED
        }
    }
}

#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = start;

extern "C" fn start() {
    for (next, name) in [(&MMAP, c"mmap"), (&MMAP64, c"mmap64")] {
        // SAFETY: the name ends with a zero.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        next.0.store(found, Ordering::Relaxed);
    }
    device::look_up();
    // SAFETY: the name ends with a zero.
    let destination = unsafe { libc::getenv(report::VARIABLE.as_ptr()) };
    if !destination.is_null() {
        // SAFETY: libc returns text that ends with a zero. Nothing of the program's own has run yet that could change it.
        report::set_up(unsafe { core::ffi::CStr::from_ptr(destination) });
    }
}
