//! A process, while it is looked at.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use hugebar::facts::Status;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::lines;
use super::progress::Progress;

/// The most that is read of a file that should be short.
const MOST_TEXT: u64 = 64 << 10;

/// How much is read at a time.
const PIECE: usize = 16 << 10;

/// A process. It stays the same one even if its PID is reused.
pub(crate) struct Process {
    dir: OwnedFd,
    progress: Arc<Progress>,
}

impl Process {
    pub(super) fn open(pid: u32, progress: Arc<Progress>) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty())?;
        Ok(Self { dir, progress })
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Records progress of the look; an error if it was abandoned.
    pub(super) fn step(&self) -> io::Result<()> {
        self.progress.step()
    }

    fn file(&self, name: &str) -> io::Result<Watched<'_>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.dir, name, flags, Mode::empty())?;
        Ok(Watched {
            file: file.into(),
            process: self,
        })
    }

    /// Reads a short text file, such as `fdinfo`. Names in it can be any bytes.
    pub(crate) fn text(&self, name: &str) -> io::Result<String> {
        let bytes = self.bytes(name)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(name)?.take(MOST_TEXT).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Passes on the lines of a file of any length.
    pub(super) fn lines(
        &self,
        name: &str,
        line: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        lines::each(BufReader::with_capacity(PIECE, self.file(name)?), line)
    }

    /// Reads its `status`.
    pub(crate) fn status(&self) -> io::Result<Status> {
        self.bytes("status").map(|text| Status::parse(&text))
    }

    /// Its name (`comm`), which the process chooses itself; empty if it cannot be read.
    pub(crate) fn name(&self) -> String {
        let mut name = self.text("comm").unwrap_or_default();
        if name.ends_with('\n') {
            name.pop();
        }
        name
    }
}

/// A file of a process: each read is a step.
struct Watched<'a> {
    file: File,
    process: &'a Process,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.process.step()?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use crate::procfs::{look, pids};

    #[test]
    fn this_process_is_there() {
        let own = std::process::id();
        assert!(pids().unwrap().contains(&own));
        let (name, status) = look(own, |process| Ok((process.name(), process.status()?))).unwrap();
        assert!(!name.is_empty() && !name.contains('\n'));
        assert!(status.effective_capabilities.is_some(), "{status:?}");
    }
}
