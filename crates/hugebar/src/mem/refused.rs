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
        _ => error,
    }
}
