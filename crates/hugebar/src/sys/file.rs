//! Files: open, read and write at an offset, memory files.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Result;

use super::seam;

/// `open(path, O_RDWR | O_CLOEXEC)`.
pub(crate) fn open_read_write(path: &Path) -> Result<OwnedFd> {
    seam::call("open", || {
        rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
    })
}

/// `fstatfs(fd)`: whether the file is of huge pages, in which the kernel maps no fewer bytes than one.
pub(crate) fn is_hugetlb(fd: BorrowedFd<'_>) -> Result<bool> {
    // `HUGETLBFS_MAGIC` of include/uapi/linux/magic.h.
    const HUGETLBFS: u32 = 0x9584_58f6;
    let stat = seam::call("fstatfs", || rustix::fs::fstatfs(fd))?;
    // The type of the field, and its sign, depend on the architecture.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "32 bits count"
    )]
    Ok(stat.f_type as u32 == HUGETLBFS)
}

/// `pread(fd, buffer, offset)`: how many bytes were read.
pub(crate) fn read_at(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize> {
    seam::call("pread", || {
        rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut *buffer, offset))
    })
}

/// `pwrite(fd, bytes, offset)`: how many bytes were written.
pub(crate) fn write_at(fd: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> Result<usize> {
    seam::call("pwrite", || {
        rustix::io::retry_on_intr(|| rustix::io::pwrite(fd, bytes, offset))
    })
}

/// `memfd_create(name, MFD_CLOEXEC)` and `ftruncate`: a file of zeros in memory.
pub(crate) fn memory_file(name: &str, size: u64) -> Result<OwnedFd> {
    let fd = seam::call("memfd_create", || {
        rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)
    })?;
    seam::call("ftruncate", || rustix::fs::ftruncate(&fd, size))?;
    Ok(fd)
}
