//! Checks of arguments that come from C.

use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::{ptr, slice};

use crate::error::{Failure, Result, call};

fn null() -> Failure {
    Failure::new(libc::EFAULT, "a pointer is NULL")
}

/// An argument that makes no sense.
pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(libc::EINVAL, message)
}

/// The place for a result.
fn out<T>(place: Option<&mut MaybeUninit<T>>) -> Result<&mut MaybeUninit<T>> {
    place.ok_or_else(null)
}

/// The body of a function that returns something by a pointer. Does nothing without a place for it.
pub(crate) fn answer<T>(
    place: Option<&mut MaybeUninit<T>>,
    find: impl FnOnce() -> Result<T>,
) -> c_int {
    call(|| {
        out(place)?.write(find()?);
        Ok(())
    })
}

/// A structure that must be there.
pub(crate) fn required<T>(argument: Option<&T>) -> Result<&T> {
    argument.ok_or_else(null)
}

/// Text.
///
/// # Safety
///
/// Null, or a string that stays as it is for the lifetime.
pub(crate) unsafe fn text<'a>(pointer: *const c_char) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(null());
    }
    // SAFETY: the caller's contract.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| invalid("a text is not UTF-8"))
}

/// A descriptor.
///
/// # Safety
///
/// It is not closed during the lifetime. It may be none, which the kernel refuses to use.
pub(crate) unsafe fn descriptor<'a>(fd: c_int) -> Result<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(Failure::new(libc::EBADF, format!("{fd} is no descriptor")));
    }
    // SAFETY: the caller's contract.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// How many bytes `count` of them have, if an object can be that large.
fn checked<T>(pointer: *const T, count: usize) -> Result<()> {
    if count > 0 && pointer.is_null() {
        return Err(null());
    }
    let bytes = count.checked_mul(size_of::<T>());
    let fits = bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok());
    match fits && pointer.is_aligned() {
        true => Ok(()),
        false => Err(invalid("an array is too long or not aligned")),
    }
}

/// An array to read; null is good for none.
///
/// # Safety
///
/// Null, or `count` elements that stay as they are for the lifetime.
pub(crate) unsafe fn array<'a, T>(pointer: *const T, count: usize) -> Result<&'a [T]> {
    checked(pointer, count)?;
    if count == 0 {
        return Ok(&[]);
    }
    // SAFETY: the caller's contract.
    Ok(unsafe { slice::from_raw_parts(pointer, count) })
}

/// A buffer to read into; null is good for none.
///
/// # Safety
///
/// Null, or `count` initialised bytes that nobody else uses for the lifetime.
pub(crate) unsafe fn buffer<'a>(pointer: *mut u8, count: usize) -> Result<&'a mut [u8]> {
    checked(pointer, count)?;
    if count == 0 {
        return Ok(&mut []);
    }
    // SAFETY: the caller's contract.
    Ok(unsafe { slice::from_raw_parts_mut(pointer, count) })
}

/// Writes as many elements as there is room for, and how many there are.
///
/// # Safety
///
/// `pointer` is null, or has room for `room` elements that nobody else uses.
pub(crate) unsafe fn fill<T: Copy>(
    items: &[T],
    pointer: *mut T,
    room: usize,
    count: Option<&mut MaybeUninit<usize>>,
) -> Result<()> {
    let count = out(count)?;
    checked(pointer, room)?;
    let fitting = items.len().min(room);
    if fitting > 0 {
        // SAFETY: there is room for that many by the caller's contract, and nobody else has it.
        unsafe { ptr::copy_nonoverlapping(items.as_ptr(), pointer, fitting) };
    }
    count.write(items.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_good_only_for_nothing() {
        let one = 7_u64;
        // SAFETY: nothing is read.
        let read = |pointer, count| unsafe { array::<u64>(pointer, count) };
        assert!(read(ptr::null(), 0).unwrap().is_empty());
        for (pointer, count) in [
            (ptr::null(), 1),
            (&raw const one, usize::MAX),
            (&raw const one, usize::MAX / 8),
            ((&raw const one).wrapping_byte_add(1), 1),
        ] {
            assert!(read(pointer, count).is_err(), "{pointer:p} {count}");
        }
        for pointer in [ptr::null(), c"\xff".as_ptr()] {
            // SAFETY: both are as they have to be.
            assert!(unsafe { text(pointer) }.is_err());
        }
    }

    #[test]
    fn as_many_elements_as_fit_are_written() {
        let mut room = [0_u64; 3];
        let mut count = MaybeUninit::uninit();
        for (len, expected) in [(0, [0, 0, 0]), (2, [1, 2, 0]), (3, [1, 2, 3])] {
            // SAFETY: the room is ours.
            unsafe { fill(&[1, 2, 3, 4], room.as_mut_ptr(), len, Some(&mut count)) }.unwrap();
            // SAFETY: it was written.
            assert_eq!((unsafe { count.assume_init() }, room), (4, expected));
        }
        // SAFETY: nothing is written.
        assert!(unsafe { fill(&[1], ptr::null_mut(), 1, Some(&mut count)) }.is_err());
    }
}
