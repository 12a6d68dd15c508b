//! Why a command did not run to its end.

use std::fmt;
use std::io;
use std::path::PathBuf;

use hugebar::ErrorKind;
use hugebar_host::preload::Refusal;

/// Why a command did not run to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments do not fit the device or one another.
    Usage(String),
    /// An error of the library.
    Library(hugebar::Error),
    /// This host, or one of its processes, could not be read.
    Host(hugebar_host::Error),
    /// A binding could not be changed.
    Admin(hugebar_host::admin::Error),
    /// The page tables disagree with the count.
    Witness(String),
    /// The page tables cannot be read.
    Unwitnessed(String),
    /// Signals could not be caught.
    Signals(io::Error),
    /// Output could not be written.
    Output(io::Error),
    /// Metrics could not be made.
    Metrics(prometheus::Error),
    /// A file could not be written.
    File(PathBuf, io::Error),
    /// The library cannot be loaded into a program.
    Refused(Refusal),
    /// A program could not be started.
    Start(String, io::Error),
}

impl Failure {
    /// A failure of measuring a BAR.
    pub(crate) fn of_measuring(error: hugebar_host::Error) -> Self {
        match error {
            hugebar_host::Error::Function(error) => Self::Library(error),
            error => Self::Unwitnessed(format!(
                "{error}; --witness needs x86, root, debugfs and a kernel with CONFIG_PTDUMP_DEBUGFS"
            )),
        }
    }

    /// Whether to try no further BARs: a signal stopped the command, or the next BAR would fail in the same way.
    pub(crate) fn ends_all(&self) -> bool {
        match self {
            Self::Library(error) => error.kind() == ErrorKind::Stopped,
            Self::Witness(_) => false,
            _ => true,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Witness(message) | Self::Unwitnessed(message) => {
                f.write_str(message)
            }
            Self::Library(error) => error.fmt(f),
            Self::Host(error) => error.fmt(f),
            Self::Admin(error) => error.fmt(f),
            Self::Signals(error) => write!(f, "catching signals: {error}"),
            Self::Output(error) => write!(f, "writing output: {error}"),
            Self::Metrics(error) => write!(f, "metrics: {error}"),
            Self::File(path, error) => write!(f, "{}: writing it: {error}", path.display()),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Start(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl From<hugebar::Error> for Failure {
    fn from(error: hugebar::Error) -> Self {
        Self::Library(error)
    }
}

impl From<hugebar_host::Error> for Failure {
    fn from(error: hugebar_host::Error) -> Self {
        match error {
            hugebar_host::Error::Function(error) => Self::Library(error),
            error => Self::Host(error),
        }
    }
}

impl From<hugebar_host::admin::Error> for Failure {
    fn from(error: hugebar_host::admin::Error) -> Self {
        Self::Admin(error)
    }
}

impl From<prometheus::Error> for Failure {
    fn from(error: prometheus::Error) -> Self {
        Self::Metrics(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<hugebar::layout::LayoutError> for Failure {
    fn from(error: hugebar::layout::LayoutError) -> Self {
        Self::Library(error.into())
    }
}
