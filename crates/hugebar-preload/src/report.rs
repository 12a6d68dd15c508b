//! Reports each mapping as a line of JSON, where that is asked for.

#![allow(unsafe_code, reason = "the border to preloaded programs")]

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_int};
use core::sync::atomic::{AtomicBool, Ordering};

use crate::call;
use crate::line::{self, Line};
use crate::place::{self, Part};

/// The variable that says where to: a path, or `fd:NUMBER:DEVICE:INODE`, so that a descriptor that has come to be another
/// file is not written to.
pub(crate) const VARIABLE: &CStr = c"HUGEBAR_PRELOAD_REPORT";

/// Who chose the address of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chooser {
    /// This library.
    Hugebar,
    /// The program.
    Program,
    /// The kernel, because this library found no better address.
    Kernel,
}

/// Where to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination {
    /// A file, opened for each line.
    Path,
    /// A descriptor, as long as it is this file.
    Descriptor { fd: c_int, device: u64, inode: u64 },
}

/// The longest path, with the zero at its end.
const PATH_MAX: usize = 4096;

/// What is kept of the environment, which the program may change.
struct Kept {
    destination: UnsafeCell<(Destination, [u8; PATH_MAX])>,
    ready: AtomicBool,
}

static KEPT: Kept = Kept {
    destination: UnsafeCell::new((Destination::Path, [0; PATH_MAX])),
    ready: AtomicBool::new(false),
};

// SAFETY: it is written once, before `ready` is set, and read only afterwards.
unsafe impl Sync for Kept {}

/// Keeps the destination. Only the constructor may call it, once.
pub(crate) fn set_up(text: &CStr) {
    let bytes = text.to_bytes_with_nul();
    let (destination, bytes) = match parse(text.to_bytes()) {
        Some(destination) => (destination, &b""[..]),
        None if bytes.starts_with(b"/") => (Destination::Path, bytes),
        None => return,
    };
    // SAFETY: nobody reads it before it is ready, and nobody else writes it.
    let kept = unsafe { &mut *KEPT.destination.get() };
    let Some(path) = kept.1.get_mut(..bytes.len()) else {
        return;
    };
    path.iter_mut()
        .zip(bytes)
        .for_each(|(to, from)| *to = *from);
    kept.0 = destination;
    KEPT.ready.store(true, Ordering::Release);
}

/// `fd:NUMBER:DEVICE:INODE`.
fn parse(text: &[u8]) -> Option<Destination> {
    let (fd, text) = line::number(text.strip_prefix(b"fd:")?)?;
    let (device, text) = line::number(text.strip_prefix(b":")?)?;
    let (inode, text) = line::number(text.strip_prefix(b":")?)?;
    let fd = c_int::try_from(fd).ok()?;
    let destination = Destination::Descriptor { fd, device, inode };
    text.is_empty().then_some(destination)
}

/// Reports a mapping.
pub(crate) fn tell(address: u64, part: &Part, chooser: Chooser) {
    if !KEPT.ready.load(Ordering::Acquire) {
        return;
    }
    // SAFETY: it is ready, so nobody writes it any more.
    let (destination, path) = unsafe { &*KEPT.destination.get() };
    let line = line(address, part, chooser);
    match *destination {
        Destination::Path => {
            const FLAGS: c_int =
                libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOCTTY;
            // SAFETY: the kept path ends with a zero.
            if let Some(fd) = unsafe { call::open(path.as_ptr().cast(), FLAGS) } {
                call::write(fd, line.bytes());
                call::close(fd);
            }
        }
        Destination::Descriptor { fd, device, inode } => {
            let same = |stat: libc::stat| stat.st_dev == device && stat.st_ino == inode;
            if call::fstat(fd).is_some_and(same) {
                call::write(fd, line.bytes());
            }
        }
    }
}

/// The line, with the names that `hugebar inspect --json` has.
fn line(address: u64, part: &Part, chooser: Chooser) -> Line<512> {
    let mut line = Line::new();
    line.text("{\"version\":1,\"address\":\"");
    line.hexadecimal(address);
    line.text("\",\"region\":");
    line.number(part.region);
    line.text(",\"offset\":");
    line.number(part.offset);
    line.text(",\"size\":");
    line.number(part.length);
    line.text(",\"chosen_by\":\"");
    line.text(match chooser {
        Chooser::Hugebar => "hugebar",
        Chooser::Program => "program",
        Chooser::Kernel => "kernel",
    });
    line.text("\",\"possible\":{");
    let leaves = part.leaves(address, &place::leaf_sizes());
    let mut first = true;
    for (size, count) in leaves.iter() {
        line.text(if first { "\"" } else { ",\"" });
        first = false;
        line.number(size);
        line.text("\":");
        line.number(count);
    }
    line.text("}}\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_one_line() {
        let part = Part::of((2 << 40) + 0x7000, 4 << 30);
        let line = line(0x7f00_4000_7000, &part, Chooser::Hugebar);
        let expected = "{\"version\":1,\"address\":\"0x7f0040007000\",\"region\":2,\"offset\":28672,\
            \"size\":4294967296,\"chosen_by\":\"hugebar\",\
            \"possible\":{\"4096\":512,\"2097152\":511,\"1073741824\":3}}\n";
        assert_eq!(core::str::from_utf8(line.bytes()), Ok(expected));
    }

    #[test]
    fn destinations_are_files_and_descriptors() {
        let destination = Destination::Descriptor {
            fd: 7,
            device: 42,
            inode: 1 << 40,
        };
        assert_eq!(parse(b"fd:7:42:1099511627776"), Some(destination));
        for other in [
            "",
            "/tmp/report",
            "fd:7",
            "fd:7:42",
            "fd:7:42:x",
            "fd:7:42:1:2",
        ] {
            assert_eq!(parse(other.as_bytes()), None, "{other}");
        }
    }
}
