//! Which descriptors are VFIO devices.
//!
//! The kernel says so, not a path: the number of a device's own node, or the kernel's name for an
//! anonymous file, which no path can be, because paths begin with a slash. No device is asked
//! (`ioctl`), since another driver could take the request for one of its own.

#![allow(unsafe_code, reason = "the border to preloaded programs")]

use core::ffi::c_int;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::call;
use crate::line::{self, Line};

/// The major number of devices that are opened by their own nodes; 0 while it is unknown.
static MAJOR: AtomicU32 = AtomicU32::new(0);

/// The kernel's name for a device that was opened by its group.
const BY_GROUP: &[u8] = b"anon_inode:[vfio-device]";

/// The end of the link from a device number in sysfs to the kind of device.
const KIND: &[u8] = b"/class/vfio-dev";

/// Whether a descriptor is a VFIO device: one `fstat`, and one `readlink` for anonymous files and as long as the major
/// number is unknown.
pub(crate) fn is_vfio(fd: c_int) -> bool {
    let Some(stat) = call::fstat(fd) else {
        return false;
    };
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFCHR => is_node(libc::major(stat.st_rdev), libc::minor(stat.st_rdev)),
        // `fstat` shows anonymous files without a type.
        0 => is_by_group(fd),
        _ => false,
    }
}

fn is_node(major: u32, minor: u32) -> bool {
    let known = MAJOR.load(Ordering::Relaxed);
    if known != 0 {
        return major == known;
    }
    // VFIO was not loaded yet when this library was. Opening files is what filters of system calls forbid first.
    let mut path = Line::<64>::new();
    path.text("/sys/dev/char/");
    path.number(major.into());
    path.text(":");
    path.number(minor.into());
    path.text("/subsystem");
    let found = link_is(&mut path, |target| target.ends_with(KIND));
    if found {
        MAJOR.store(major, Ordering::Relaxed);
    }
    found
}

fn is_by_group(fd: c_int) -> bool {
    let mut path = Line::<64>::new();
    // A thread can have a table of descriptors of its own.
    path.text("/proc/thread-self/fd/");
    path.number(u64::from(fd.unsigned_abs()));
    link_is(&mut path, |target| target == BY_GROUP)
}

fn link_is<const N: usize>(path: &mut Line<N>, is: impl Fn(&[u8]) -> bool) -> bool {
    let mut target = [0; 256];
    let Some(path) = path.terminated() else {
        return false;
    };
    // SAFETY: a terminated line ends with a zero.
    unsafe { call::read_link(path, &mut target) }.is_some_and(is)
}

/// Looks up the major number in `/proc/devices`.
pub(crate) fn look_up() {
    let path = c"/proc/devices".as_ptr();
    // SAFETY: the path ends with a zero.
    let Some(fd) = (unsafe { call::open(path, libc::O_RDONLY | libc::O_CLOEXEC) }) else {
        return;
    };
    let mut text = [0; 8192];
    let mut length = 0;
    while let Some(rest) = text.get_mut(length..) {
        match call::read(fd, rest) {
            None | Some(0) => break,
            Some(read) => length = length.saturating_add(read),
        }
    }
    call::close(fd);
    if let Some(major) = text.get(..length).and_then(major_of) {
        MAJOR.store(major, Ordering::Relaxed);
    }
}

/// The number before `vfio-dev` in the text of `/proc/devices`.
fn major_of(mut text: &[u8]) -> Option<u32> {
    loop {
        while let [b' ' | b'\n', rest @ ..] = text {
            text = rest;
        }
        if let Some((major, rest)) = line::number(text) {
            if rest.starts_with(b" vfio-dev\n") {
                return u32::try_from(major).ok();
            }
        }
        while let [other, rest @ ..] = text {
            if *other == b'\n' {
                break;
            }
            text = rest;
        }
        if text.is_empty() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_number_is_before_the_name() {
        let text = "Character devices:\n  1 mem\n 10 misc\n236 vfio\n511 vfio-dev\n\nBlock devices:\n  7 loop\n";
        assert_eq!(major_of(text.as_bytes()), Some(511));
        for other in [
            "",
            "511 vfio\n",
            "vfio-dev\n",
            "x vfio-dev\n",
            "1 my-vfio-dev\n",
            "511 vfio-dev2\n",
        ] {
            assert_eq!(major_of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn other_files_are_none() {
        let own = std::env::current_exe().unwrap();
        for path in ["/dev/null", "/dev/zero", own.to_str().unwrap()] {
            let file = File::open(path).unwrap();
            assert!(!is_vfio(file.as_raw_fd()), "{path}");
        }
        // SAFETY: it makes a descriptor.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        // SAFETY: it makes a descriptor. A file in memory can have any name.
        let named = unsafe { libc::memfd_create(c"anon_inode:[vfio-device]".as_ptr(), 0) };
        assert!(event >= 0 && named >= 0);
        assert!(!is_vfio(event) && !is_vfio(named));
        assert!(!is_vfio(-1) && !is_vfio(c_int::MAX));
    }

    /// The name of an event descriptor stands for that of a device: both are the kernel's for an anonymous file.
    #[test]
    fn anonymous_files_are_told_apart_by_the_kernels_name() {
        // SAFETY: it makes a descriptor.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        let stat = call::fstat(event).unwrap();
        assert_eq!(stat.st_mode & libc::S_IFMT, 0);
        let mut path = Line::<64>::new();
        path.text("/proc/thread-self/fd/");
        path.number(u64::try_from(event).unwrap());
        assert!(link_is(&mut path, |target| target == b"anon_inode:[eventfd]"));
    }

    #[test]
    fn a_device_number_has_its_kind_in_sysfs() {
        // What /dev/null is, in place of a device.
        let mut path = Line::<64>::new();
        path.text("/sys/dev/char/1:3/subsystem");
        assert!(link_is(&mut path, |target| target.ends_with(b"/class/mem")));
        assert!(!is_node(1, 3));
    }
}
