//! Files: open, read and write at an offset, memory files.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Result;

use super::seam;

/// `open(path, O_RDWR | O_CLOEXEC)`.
pub(crate) fn open_read_write(path: &Path) -> Result<OwnedFd> {
    seam::call("open", || {
        rustix::fs::openat(
            rustix::fs::CWD,
            path,
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        )
    })
}

/// Identifies the mappings of a file by the numbers in `/proc/self/maps`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
    /// `st_blksize`: for a file of huge pages, the size of a page.
    block: u64,
}

/// `fstat(fd)`: identifies the file.
pub(crate) fn identity(fd: BorrowedFd<'_>) -> Result<Identity> {
    let stat = seam::call("fstat", || rustix::fs::fstat(fd))?;
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_fallible_conversions,
        reason = "the types of these fields depend on the architecture"
    )]
    Ok(Identity {
        device: (
            rustix::fs::major(stat.st_dev),
            rustix::fs::minor(stat.st_dev),
        ),
        inode: stat.st_ino,
        block: u64::try_from(stat.st_blksize).unwrap_or(u64::MAX),
    })
}

/// Whether the file consists of huge pages, of which the kernel maps only whole ones.
///
/// Calls `fstatfs` only if the blocks are larger than pages. For a device they are not, and a sandbox
/// for devices may not allow that call.
pub(crate) fn is_hugetlb(fd: BorrowedFd<'_>, identity: &Identity) -> Result<bool> {
    // `HUGETLBFS_MAGIC` of include/uapi/linux/magic.h.
    const HUGETLBFS: u32 = 0x9584_58f6;
    if identity.block <= super::process::page_size() {
        return Ok(false);
    }
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

/// `memfd_create(name, MFD_CLOEXEC)`: an empty file in memory. `more` is `MFD_HUGETLB` with a page size, sealing, or
/// nothing.
pub(crate) fn memory_file(name: &str, more: MemfdFlags) -> Result<OwnedFd> {
    seam::call("memfd_create", || {
        rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | more)
    })
}

/// `ftruncate(fd, size)`: the file gets this size, with zeros.
pub(crate) fn resize(fd: BorrowedFd<'_>, size: u64) -> Result<()> {
    seam::call("ftruncate", || rustix::fs::ftruncate(fd, size))
}

/// `fcntl(fd, F_ADD_SEALS)`: the file keeps its size for good.
pub(crate) fn seal_size(fd: BorrowedFd<'_>) -> Result<()> {
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    seam::call("fcntl", || rustix::fs::fcntl_add_seals(fd, seals))
}
