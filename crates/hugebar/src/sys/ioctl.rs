//! Makes ioctls: typed requests, and answers that grow.
//!
//! The requests of VFIO and iommufd encode no direction or size (`_IO(type, n)`); every
//! struct contains its own size, and the kernel writes no more than that. KVM's requests encode both.

#![allow(unsafe_code, reason = "one of the modules that may: system calls")]

use core::ffi::{c_int, c_void};
use core::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};
use rustix::ioctl::Opcode;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::abi::argsz;
use super::seam;

/// A request that takes an `A`: its name and its number.
///
/// # Invariants
///
/// The kernel takes a pointer to an `A` for this number, and writes no more there than an `A` (or,
/// where it starts with `argsz`, no more than that says), and only valid ones.
pub(crate) struct Request<A: ?Sized> {
    pub(crate) name: &'static str,
    pub(crate) number: u32,
    argument: PhantomData<fn(&A)>,
}

/// The argument of a request that takes a number, or nothing, instead of a pointer.
pub(crate) enum Number {}

impl<A: ?Sized> Request<A> {
    /// Makes a request.
    ///
    /// # Safety
    ///
    /// The type's invariants must hold for it.
    pub(super) const unsafe fn new(name: &'static str, number: Opcode) -> Self {
        Self {
            name,
            number,
            argument: PhantomData,
        }
    }
}

/// Requests of a header, each with its argument, name and number.
macro_rules! requests {
    ($($constant:ident: $argument:ty = $name:literal, $number:expr;)*) => {$(
        pub(crate) const $constant: Request<$argument> =
            // SAFETY: the header that the file names has this request with this argument; tests
            // compare them with independent headers.
            unsafe { Request::new($name, $number) };
    )*};
}
pub(super) use requests;

/// A larger answer is rejected: no driver has capabilities of that size.
const LARGEST_INFO: u32 = 1 << 20;

/// How often a driver that asks for more room each time is called at most.
pub(super) const MOST_TRIES: usize = 8;

/// A request that takes a number.
pub(super) fn number(fd: BorrowedFd<'_>, request: Request<Number>, argument: u32) -> Result<c_int> {
    // SAFETY: the request takes no pointer.
    unsafe { ioctl(fd, request, argument as usize) }
}

/// A request whose argument is a struct that the kernel reads and may fill in.
pub(super) fn update<A: FromBytes + IntoBytes>(
    fd: BorrowedFd<'_>,
    request: Request<A>,
    argument: &mut A,
) -> Result<()> {
    let address = core::ptr::from_mut(argument).expose_provenance();
    // SAFETY: `argument` is the struct that the request takes, borrowed exclusively, and any bytes
    // that the kernel writes are a valid one.
    unsafe { ioctl(fd, request, address) }.map(drop)
}

/// A request whose struct is followed by capabilities: repeats it with as much room as the last answer
/// asked for (`argsz`), until that suffices; a bounded number of times. Returns the struct and all bytes of the last
/// answer.
///
/// Some vGPU drivers fill in the base fields only if there is room for the capabilities, so use the last
/// answer.
pub(super) fn with_capabilities<A>(
    fd: BorrowedFd<'_>,
    request: Request<A>,
    ask: impl Fn(u32) -> A,
    argsz_of: impl Fn(&A) -> u32,
) -> Result<(A, Vec<u8>)>
where
    A: FromBytes + IntoBytes + Immutable + KnownLayout,
{
    let mut size = argsz::<A>();
    for _ in 0..MOST_TRIES {
        if size > LARGEST_INFO {
            break;
        }
        // Words, for the alignment that the struct needs.
        let mut answer = vec![0_u64; (size as usize).div_ceil(8)];
        let bytes = answer.as_mut_slice().as_mut_bytes();
        bytes[..size_of::<A>()].copy_from_slice(ask(size).as_bytes());
        let address = bytes.as_mut_ptr().expose_provenance();
        // SAFETY: the buffer starts with the struct that the request takes, and has the `size` bytes
        // that its `argsz` promises the kernel.
        unsafe { ioctl(fd, request, address) }?;
        let bytes = &answer.as_slice().as_bytes()[..size as usize];
        let (info, _) = A::read_from_prefix(bytes).map_err(|_| Errno::OVERFLOW)?;
        if argsz_of(&info) <= size {
            return Ok((info, bytes.to_vec()));
        }
        size = argsz_of(&info);
    }
    Err(Errno::OVERFLOW)
}

impl<A: ?Sized> Clone for Request<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: ?Sized> Copy for Request<A> {}

/// `ioctl(2)`.
///
/// # Safety
///
/// `argument` must be what `request` takes: a number, or the address of a live, exclusively borrowed
/// object of its struct, as large as its `argsz` says.
pub(super) unsafe fn ioctl<A: ?Sized>(
    fd: BorrowedFd<'_>,
    request: Request<A>,
    argument: usize,
) -> Result<c_int> {
    seam::call(request.name, || {
        let pointer = core::ptr::with_exposed_provenance_mut::<c_void>(argument);
        // SAFETY: the caller's contract. The fd is open as long as it is borrowed.
        let answer = unsafe { libc::ioctl(fd.as_raw_fd(), request.number as _, pointer) };
        if answer < 0 {
            let error = std::io::Error::last_os_error();
            return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        }
        Ok(answer)
    })
}
