//! Mappings of VFIO devices: at congruent addresses, hinted, reported.

#![allow(unsafe_code, reason = "the border to preloaded programs")]

use core::ffi::{c_int, c_void};

use crate::call::{self, Request};
use crate::device;
use crate::leaf::MIB;
use crate::place::{self, Part};
use crate::report::{self, Chooser};
use crate::start::Next;

/// Smaller mappings have no large leaves.
const SMALLEST: usize = 2 * MIB as usize;

/// How often another thread may take the chosen addresses first.
const ATTEMPTS: u32 = 64;

/// Whether a request could be for a VFIO device, by its arguments alone.
#[inline(always)]
pub(crate) fn concerns(request: &Request) -> bool {
    // The lowest bits of MAP_SHARED and MAP_SHARED_VALIDATE, but not of MAP_PRIVATE and MAP_DROPPABLE.
    request.flags & libc::MAP_SHARED != 0
        && request.flags & libc::MAP_ANONYMOUS == 0
        && request.length >= SMALLEST
}

/// Maps a large part of a shared file, for which `next` alone would do if it is no VFIO device.
///
/// # Safety
///
/// As `mmap`.
#[cold]
pub(crate) unsafe fn with_care(next: &Next, request: &Request) -> *mut c_void {
    if !device::is_vfio(request.fd) {
        // SAFETY: the caller's contract.
        return unsafe { next.map(request) };
    }
    let errno = call::errno();
    let part = Part::of(request.offset, request.length);
    let placed = match is_free(request) {
        // SAFETY: the caller's contract.
        true => unsafe { place(next, request, &part) },
        false => None,
    };
    let (mapped, chooser) = placed.unwrap_or_else(|| {
        call::set_errno(errno);
        // SAFETY: the caller's contract.
        let mapped = unsafe { next.map(request) };
        let asked = !is_free(request) && mapped as usize == request.address;
        let chooser = if asked {
            Chooser::Program
        } else {
            Chooser::Kernel
        };
        (mapped, chooser)
    });
    if mapped != libc::MAP_FAILED {
        call::hint(mapped as usize, request.length);
        report::tell(mapped as u64, &part, chooser);
        call::set_errno(errno);
    }
    mapped
}

/// Whether the address does not matter to the program.
fn is_free(request: &Request) -> bool {
    const OWN: c_int = libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE | LOW;
    request.address == 0 && request.flags & OWN == 0
}

/// `MAP_32BIT`: addresses in the lower 2 GiB.
#[cfg(target_arch = "x86_64")]
const LOW: c_int = libc::MAP_32BIT;
#[cfg(not(target_arch = "x86_64"))]
const LOW: c_int = 0;

/// Maps the part at the best address that is free, or `None` where the request itself has to be made: for its error,
/// or because there are no such addresses.
///
/// # Safety
///
/// As `mmap`, for a request that is free.
unsafe fn place(next: &Next, request: &Request, part: &Part) -> Option<(*mut c_void, Chooser)> {
    let sizes = place::leaf_sizes();
    let mut alignment = part.alignment(&sizes)?;
    let mut attempts = 0;
    loop {
        let Some(address) = find(request.length, part, alignment, attempts) else {
            // Too few addresses (`RLIMIT_AS`): a smaller alignment needs fewer.
            alignment = place::smaller(alignment, &sizes)?;
            continue;
        };
        let request = Request {
            address,
            flags: request.flags | libc::MAP_FIXED_NOREPLACE,
            ..*request
        };
        // SAFETY: the caller's contract; it replaces nothing.
        let mapped = unsafe { next.map(&request) };
        if mapped == libc::MAP_FAILED {
            attempts += 1;
            // Otherwise another thread has taken the addresses meanwhile.
            if call::errno() != libc::EEXIST || attempts == ATTEMPTS {
                return None;
            }
            continue;
        }
        // Before Linux 4.17 the address is only a wish.
        let ours = mapped as usize == address;
        return Some((
            mapped,
            if ours {
                Chooser::Hugebar
            } else {
                Chooser::Kernel
            },
        ));
    }
}

/// A free address for the part: the kernel finds room for it at any alignment, which is given back.
///
/// Keeping the room and mapping over it would be certain, but if that fails, the kernel may have left a gap there, which
/// another thread may own by then.
///
/// The kernel gives every thread the same room, the highest, so each further attempt asks for more of it and takes the
/// lower end, where no thread's next mapping goes, and which differs from thread to thread.
fn find(length: usize, part: &Part, alignment: u64, attempts: u32) -> Option<usize> {
    let alignment_size = usize::try_from(alignment).ok()?;
    let room = |leaves: usize| free(length.checked_add(alignment_size.checked_mul(leaves)?)?);
    // There may be no more room than the part needs.
    let low = room(1 + place::apart(attempts)).or_else(|| room(1))?;
    Some(part.address_from(low, alignment))
}

/// The lower end of the highest room of this length, which is free.
fn free(length: usize) -> Option<usize> {
    let room = Request {
        address: 0,
        length,
        protection: libc::PROT_NONE,
        flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        fd: -1,
        offset: 0,
    };
    // SAFETY: without MAP_FIXED the kernel chooses addresses that were free.
    let low = unsafe { call::mmap(&room) }.ok()?;
    // SAFETY: nothing has used it.
    unsafe { call::munmap(low, length) }.ok()?;
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(address: usize, length: usize, flags: c_int) -> Request {
        Request {
            address,
            length,
            protection: libc::PROT_READ,
            flags,
            fd: 3,
            offset: 0,
        }
    }

    #[test]
    fn only_large_shared_files_concern_it() {
        const LARGE: usize = 2 << 20;
        for (length, flags, expected) in [
            (LARGE, libc::MAP_SHARED, true),
            (LARGE, libc::MAP_SHARED_VALIDATE, true),
            (LARGE, libc::MAP_SHARED | libc::MAP_FIXED, true),
            (LARGE - 1, libc::MAP_SHARED, false),
            (LARGE, libc::MAP_PRIVATE, false),
            (LARGE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, false),
            (LARGE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, false),
            // MAP_DROPPABLE
            (LARGE, 0x08 | libc::MAP_ANONYMOUS, false),
        ] {
            let request = request(0, length, flags);
            assert_eq!(concerns(&request), expected, "{request:?}");
        }
    }

    #[test]
    fn an_address_or_a_flag_for_one_is_the_programs_choice() {
        for (address, flags, expected) in [
            (0, libc::MAP_SHARED, true),
            (0x1000, libc::MAP_SHARED, false),
            (0, libc::MAP_SHARED | libc::MAP_FIXED, false),
            (0, libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE, false),
            (0, libc::MAP_SHARED | libc::MAP_POPULATE, true),
        ] {
            assert_eq!(is_free(&request(address, 4 << 20, flags)), expected);
        }
        assert!(!is_free(&request(0, 4 << 20, libc::MAP_SHARED | LOW)) || LOW == 0);
    }

    /// A file stands for a device: where it goes does not depend on what it is.
    #[test]
    fn a_part_goes_to_a_congruent_address_and_leaves_nothing_else() {
        const LENGTH: usize = 3 << 30;
        const OFFSET: i64 = 0x7000;
        // SAFETY: it makes a descriptor.
        let fd = unsafe { libc::memfd_create(c"device".as_ptr(), libc::MFD_CLOEXEC) };
        // SAFETY: it changes the size of our own file.
        assert_eq!(unsafe { libc::ftruncate(fd, OFFSET + LENGTH as i64) }, 0);
        let request = Request {
            fd,
            offset: OFFSET,
            ..request(0, LENGTH, libc::MAP_SHARED)
        };
        let part = Part::of(OFFSET, LENGTH);
        // SAFETY: a new mapping at addresses that were free.
        let placed = unsafe { place(&Next::unknown(), &request, &part) };
        let (mapped, chooser) = placed.unwrap();
        assert_eq!(chooser, Chooser::Hugebar);
        assert_eq!(mapped as usize % (1 << 30), 0x7000);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let own: Vec<_> = maps
            .lines()
            .filter(|line| line.contains("memfd:device"))
            .collect();
        let range = format!("{:x}-{:x} r--s", mapped as usize, mapped as usize + LENGTH);
        assert!(own.len() == 1 && own[0].starts_with(&range), "{own:?}");
        // SAFETY: nothing uses the mapping.
        unsafe { call::munmap(mapped as usize, LENGTH) }.unwrap();

        // Beyond the file of a read-only descriptor for writing: the error is for the request itself to get.
        let wrong = Request { fd: -1, ..request };
        // SAFETY: it fails.
        assert!(unsafe { place(&Next::unknown(), &wrong, &part) }.is_none());
        // SAFETY: the descriptor is our own.
        unsafe { libc::close(fd) };
    }

    #[test]
    fn threads_at_once_all_get_congruent_addresses() {
        const LENGTH: usize = 3 << 30;
        // SAFETY: it makes a descriptor.
        let fd = unsafe { libc::memfd_create(c"device".as_ptr(), libc::MFD_CLOEXEC) };
        // SAFETY: it changes the size of our own file.
        assert_eq!(unsafe { libc::ftruncate(fd, LENGTH as i64) }, 0);
        let request = Request {
            fd,
            ..request(0, LENGTH, libc::MAP_SHARED)
        };
        let part = Part::of(0, LENGTH);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..4_000 {
                        // SAFETY: a new mapping at addresses that were free.
                        let placed = unsafe { place(&Next::unknown(), &request, &part) };
                        let (mapped, chooser) = placed.unwrap();
                        assert_eq!(chooser, Chooser::Hugebar);
                        assert_eq!(mapped as usize % (1 << 30), 0);
                        // SAFETY: nothing uses the mapping.
                        unsafe { call::munmap(mapped as usize, LENGTH) }.unwrap();
                    }
                });
            }
        });
        // SAFETY: the descriptor is our own.
        unsafe { libc::close(fd) };
    }
}
