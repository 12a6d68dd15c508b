//! The crate's error: what could not be read, and why.

use std::fmt;
use std::io;

use crate::procfs;

/// What could not be read.
///
/// Displayed as one line: subject, the kernel's error, and the remedy if one is known.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An error of the library, about a PCI function.
    Function(hugebar::Error),
    /// A process, in `/proc/PID`.
    Process {
        /// Its PID.
        pid: u32,
        /// The error of reading it.
        source: io::Error,
    },
    /// A kernel file that is required.
    File {
        /// Its path.
        path: &'static str,
        /// The error of reading it.
        source: io::Error,
    },
}

/// The kind of error, for programs to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such process or file.
    NotFound,
    /// The process did not answer in time: it waits in a system call, with its memory map locked.
    TimedOut,
    /// This process lacks the privilege.
    PermissionDenied,
    /// An error of the library; see [`hugebar::Error::kind`].
    Function,
    /// Any other error.
    Other,
}

impl Error {
    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Function(_) => ErrorKind::Function,
            Self::Process { source, .. } if procfs::has_ended(source) => ErrorKind::NotFound,
            Self::Process { source, .. } | Self::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::TimedOut => ErrorKind::TimedOut,
                io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                _ => ErrorKind::Other,
            },
        }
    }

    /// The function, process or file that could not be read; empty if the library names none.
    pub fn subject(&self) -> String {
        match self {
            Self::Function(error) => error.subject().to_owned(),
            Self::Process { pid, .. } => format!("process {pid}"),
            Self::File { path, .. } => (*path).to_owned(),
        }
    }

    /// The kernel's error number, if a call failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Function(error) => error.errno(),
            Self::Process { source, .. } | Self::File { source, .. } => source.raw_os_error(),
        }
    }

    /// What to do about it, if that is known.
    pub fn remedy(&self) -> Option<&str> {
        match (self, self.kind()) {
            (Self::Function(error), _) => error.remedy(),
            (Self::Process { .. }, ErrorKind::NotFound | ErrorKind::TimedOut) => None,
            (Self::Process { .. }, _) => Some(procfs::missing_privilege()),
            (Self::File { .. }, _) => None,
        }
    }

    /// Makes an error about a kernel file.
    pub(crate) fn file(path: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(error) => return error.fmt(f),
            Self::Process { pid, source } => match self.kind() {
                ErrorKind::NotFound => write!(f, "process {pid}: no such process")?,
                ErrorKind::TimedOut => write!(
                    f,
                    "process {pid} does not answer: it is blocked in a system call with its memory map locked"
                )?,
                _ => write!(f, "process {pid}: {source}")?,
            },
            Self::File { path, source } => write!(f, "{path}: {source}")?,
        }
        match self.remedy() {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Displayed as is, so its source comes next.
            Self::Function(error) => std::error::Error::source(error),
            Self::Process { source, .. } | Self::File { source, .. } => Some(source),
        }
    }
}

impl From<hugebar::Error> for Error {
    fn from(error: hugebar::Error) -> Self {
        Self::Function(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(errno: i32) -> Error {
        let source = io::Error::from_raw_os_error(errno);
        Error::Process { pid: 7, source }
    }

    #[test]
    fn a_process_that_has_ended_has_no_remedy() {
        // ENOENT and ESRCH.
        for errno in [2, 3] {
            let error = process(errno);
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert_eq!(error.to_string(), "process 7: no such process");
            assert_eq!((error.errno(), error.remedy()), (Some(errno), None));
        }
    }

    #[test]
    fn a_process_that_may_not_be_read_has_one() {
        // EACCES.
        let error = process(13);
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let remedy = error.remedy().unwrap();
        assert!(remedy.starts_with("needs "), "{remedy}");
        assert!(error.to_string().ends_with(remedy), "{error}");
        assert_eq!(error.subject(), "process 7");
    }

    #[test]
    fn a_process_that_does_not_answer_is_told_apart() {
        let source = io::Error::from(io::ErrorKind::TimedOut);
        let error = Error::Process { pid: 7, source };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("does not answer"), "{error}");
        assert_eq!(error.remedy(), None);
    }
}
