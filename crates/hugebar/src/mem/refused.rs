//! Errors of mapping an area of a file.

use rustix::io::Errno;

use crate::error::{Error, ErrorKind};
use crate::layout::Area;

/// The error for an area that was not mapped.
pub(super) fn refused(area: &Area, errno: Errno) -> Error {
    let error = Error::call(format!("mmap of area {area}"), errno);
    match errno {
        Errno::ACCESS => error.with_remedy("the descriptor was not opened for this access"),
        Errno::INVAL | Errno::NODEV | Errno::PERM | Errno::NXIO => error
            .of_kind(ErrorKind::Unsupported)
            .with_remedy("the driver refuses to map this part of the region"),
        // Mapping a BAR by its device names what it is.
        Errno::BUSY => {
            error.with_remedy("something else claims these addresses: find them in /proc/iomem")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_caller_can_change_is_said() {
        let area = Area::new(0, 4096);
        for (errno, word) in [
            (Errno::ACCESS, "opened"),
            (Errno::NODEV, "driver"),
            (Errno::BUSY, "/proc/iomem"),
        ] {
            let error = refused(&area, errno);
            let remedy = error.remedy().unwrap_or_default();
            assert!(remedy.contains(word), "{error}");
        }
        assert_eq!(refused(&area, Errno::BUSY).kind(), ErrorKind::Busy);
    }
}
