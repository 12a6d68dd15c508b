//! Writes to sysfs in a child process: unbinding a driver can sleep for ever, and nothing ends a process that does.
//!
//! A thread would not do: a process does not end before all its threads have, so the command would hang with it.
#![allow(unsafe_code, reason = "fork")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

/// What the child exits with if the kernel's error is none that an exit status can have.
const OTHER: i32 = 255;

/// `ENOTSUPP` of the kernel's `include/linux/errno.h`, which programs should not see but do, and what stands for it.
pub(super) const ENOTSUPP: i32 = 524;
const FOR_ENOTSUPP: i32 = 254;

/// Writes a text to a file, and waits at most this long (`fork`, `write`, `poll` of a pidfd; Linux 5.3).
///
/// # Errors
///
/// [`io::ErrorKind::TimedOut`] if the kernel has not finished: the child is left behind, and ends when it can.
pub(super) fn write(path: &Path, text: &str, limit: Duration) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let child = start(&file, text.as_bytes())?;
    let pidfd = pidfd_open(child, PidfdFlags::empty())?;
    let limit = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut ready = [PollFd::new(&pidfd, PollFlags::IN)];
    loop {
        match poll(&mut ready, Some(&limit)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => break,
            Err(Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
    }
    let status = waitid(WaitId::Pid(child), WaitIdOptions::EXITED)?;
    match status.and_then(|status| status.exit_status()) {
        Some(0) => Ok(()),
        Some(FOR_ENOTSUPP) => Err(io::Error::from_raw_os_error(ENOTSUPP)),
        Some(errno) if errno != OTHER => Err(io::Error::from_raw_os_error(errno)),
        _ => Err(io::Error::other("the child that writes has failed")),
    }
}

/// Starts a child that writes and exits with the error number.
fn start(file: &File, text: &[u8]) -> io::Result<Pid> {
    let fd = file.as_raw_fd();
    // SAFETY: the child calls only functions that are safe after fork (signal-safety(7)), and allocates nothing.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => write_and_exit(fd, text),
        pid => Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::InvalidData.into()),
    }
}

/// The child. It keeps no other file open: whoever reads the command's output would wait for it, and so would the next
/// process that wants the lock.
fn write_and_exit(fd: RawFd, text: &[u8]) -> ! {
    let number = u32::try_from(fd).unwrap_or_default();
    let before = number.checked_sub(1).map(|last| (0, last));
    for (first, last) in before.into_iter().chain([(number + 1, u32::MAX)]) {
        // SAFETY: a system call that takes numbers; no file but `fd` is used any more (Linux 5.9; before, it fails).
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
    // SAFETY: the bytes are readable for their length.
    let written = unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
    let status = match written {
        -1 => io::Error::last_os_error().raw_os_error().unwrap_or(OTHER),
        _ => 0,
    };
    let status = match status {
        ENOTSUPP => FOR_ENOTSUPP,
        0..FOR_ENOTSUPP => status,
        _ => OTHER,
    };
    // SAFETY: ends the process, without running anything that the parent has registered.
    unsafe { libc::_exit(status) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_text_arrives_and_errors_come_back() {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.path(), "0000:01:00.0", LONG).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"0000:01:00.0");
        // ENOSPC.
        let error = write(Path::new("/dev/full"), "x", LONG).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(28));
        let error = write(Path::new("/nowhere"), "x", LONG).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_write_that_sleeps_is_left_behind_with_nothing_else_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from(0o600),
            0,
        );
        made.unwrap();
        // Both ends, so that opening it does not wait.
        let pipe = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let (other, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();

        let text = "x".repeat(1 << 20);
        let began = Instant::now();
        let error = write(&path, &text, Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < LONG);
        // The child does not have the other pipe open.
        drop(end);
        let mut closed = [PollFd::new(&other, PollFlags::IN)];
        let limit = Timespec::try_from(Duration::from_secs(10)).unwrap();
        poll(&mut closed, Some(&limit)).unwrap();
        assert!(closed[0].revents().contains(PollFlags::HUP));
        // No reader is left: the child ends.
        drop(pipe);
    }
}
