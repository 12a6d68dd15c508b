//! Eventfds: counters that the kernel adds to when an interrupt fires.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::{Errno, Result};

use super::seam;

/// `eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK)`.
pub(crate) fn create() -> Result<OwnedFd> {
    seam::call("eventfd2", || {
        rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
    })
}

/// `read(fd)`: what was added since it was last read; 0 where nothing was.
pub(crate) fn take(fd: BorrowedFd<'_>) -> Result<u64> {
    seam::call("read", || {
        let mut count = [0; 8];
        match rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut count)) {
            Ok(8) => Ok(u64::from_ne_bytes(count)),
            Ok(_) => Err(Errno::INVAL),
            Err(Errno::AGAIN) => Ok(0),
            Err(errno) => Err(errno),
        }
    })
}

/// `ppoll(fd, POLLIN)`: waits until there is something to read; for ever without a time.
pub(crate) fn wait(fd: BorrowedFd<'_>, time: Option<&Timespec>) -> Result<()> {
    seam::call("ppoll", || {
        rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], time).map(drop)
    })
}
