//! Why a command did not run to its end.

use std::fmt;
use std::io;

use serde::Serialize;

use crate::host::procfs;

/// Why a command did not run to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments do not fit the device or one another.
    Usage(String),
    /// The library said no.
    Library(hugebar::Error),
    /// The page tables disagree with what was counted, or cannot be read.
    Witness(String),
    /// A process could not be looked at.
    Process { pid: u32, error: io::Error },
    /// Something of this host that every command needs is not to be had.
    Host {
        what: &'static str,
        error: io::Error,
    },
    /// Output could not be written.
    Output(io::Error),
}

impl Failure {
    /// The form that `--json` prints: `{"version": 1, "error": {…}}`.
    pub(crate) fn report(&self) -> impl Serialize + use<> {
        ErrorReport {
            version: crate::output::VERSION,
            error: match self {
                Self::Usage(message) => Described {
                    kind: "usage".into(),
                    message: message.clone(),
                    ..Described::default()
                },
                Self::Witness(message) => Described {
                    kind: "witness".into(),
                    message: message.clone(),
                    ..Described::default()
                },
                Self::Library(error) => Described {
                    kind: serde_json::to_value(error.kind()).unwrap_or_default(),
                    message: error.to_string(),
                    subject: Some(error.subject().to_owned()).filter(|text| !text.is_empty()),
                    operation: Some(error.operation().to_owned()),
                    errno: error.errno(),
                    remedy: error.advice().map(str::to_owned),
                },
                Self::Process { pid, error } => Described {
                    kind: process_kind(error).into(),
                    message: self.to_string(),
                    subject: Some(format!("process {pid}")),
                    errno: error.raw_os_error(),
                    ..Described::default()
                },
                Self::Host { error, .. } => Described {
                    kind: "host".into(),
                    message: self.to_string(),
                    errno: error.raw_os_error(),
                    ..Described::default()
                },
                Self::Output(error) => Described {
                    kind: "output".into(),
                    message: error.to_string(),
                    ..Described::default()
                },
            },
        }
    }
}

#[derive(Serialize)]
struct ErrorReport {
    version: u32,
    error: Described,
}

#[derive(Default, Serialize)]
struct Described {
    kind: serde_json::Value,
    message: String,
    subject: Option<String>,
    operation: Option<String>,
    errno: Option<i32>,
    remedy: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Witness(message) => f.write_str(message),
            Self::Library(error) => error.fmt(f),
            Self::Process { pid, error } => match process_kind(error) {
                "not-found" => write!(f, "process {pid}: no such process"),
                "timed-out" => write!(
                    f,
                    "process {pid} does not answer: it waits in a system call, with its memory map locked"
                ),
                _ => write!(f, "process {pid}: {error}; {}", procfs::lacking()),
            },
            Self::Host { what, error } => write!(f, "{what}: {error}"),
            Self::Output(error) => write!(f, "writing output: {error}"),
        }
    }
}

/// In the words that the library has for its errors.
fn process_kind(error: &io::Error) -> &'static str {
    if procfs::ended(error) {
        "not-found"
    } else if procfs::is_silent(error) {
        "timed-out"
    } else {
        "permission-denied"
    }
}

impl From<hugebar::Error> for Failure {
    fn from(error: hugebar::Error) -> Self {
        Self::Library(error)
    }
}

impl From<hugebar::layout::LayoutError> for Failure {
    fn from(error: hugebar::layout::LayoutError) -> Self {
        Self::Library(error.into())
    }
}

/// For errors of what is named.
pub(crate) fn host(what: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::Host { what, error }
}
