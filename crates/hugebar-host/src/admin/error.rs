//! Why a binding could not be changed.

use std::fmt;
use std::io;

/// The kind of error, for programs to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum ErrorKind {
    /// The device is in use.
    InUse,
    /// Nothing is remembered about the device.
    NotRemembered,
    /// Another process has changed the binding since it was planned.
    Changed,
    /// The kernel did not finish in time, and goes on waiting.
    TimedOut,
    /// Device, driver or kernel cannot do this.
    NotSupported,
    /// The kernel has no room for the BARs.
    NoSpace,
    /// There is no such device, driver or user.
    NotFound,
    /// The process lacks permission.
    PermissionDenied,
    /// The arguments do not fit.
    InvalidInput,
    /// A file has invalid content.
    Malformed,
    /// Any other refusal by the kernel.
    System,
}

/// Why a binding could not be changed.
///
/// Displayed as one line: subject, operation, the kernel's error, and the remedy if one is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    subject: String,
    operation: String,
    errno: Option<i32>,
    remedy: Option<String>,
}

impl Error {
    pub(crate) fn new(
        kind: ErrorKind,
        subject: impl fmt::Display,
        operation: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            subject: subject.to_string(),
            operation: operation.into(),
            errno: None,
            remedy: None,
        }
    }

    /// An error of the kernel.
    pub(crate) fn call(
        subject: impl fmt::Display,
        operation: impl Into<String>,
        error: &io::Error,
    ) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            io::ErrorKind::TimedOut => ErrorKind::TimedOut,
            io::ErrorKind::InvalidData => ErrorKind::Malformed,
            _ => ErrorKind::System,
        };
        let mut own = Self::new(kind, subject, operation);
        own.errno = error.raw_os_error();
        if own.errno.is_none() {
            own.operation = format!("{}: {error}", own.operation);
        }
        if kind == ErrorKind::PermissionDenied {
            own.remedy = Some("needs root".to_owned());
        }
        own
    }

    /// The same of another kind.
    pub(crate) fn of_kind(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    pub(crate) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The device or file.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What failed.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The kernel's error number, if a call failed.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// What to do about it, if that is known.
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.operation)?;
        if let Some(errno) = self.errno {
            write!(f, ": {}", io::Error::from_raw_os_error(errno))?;
        }
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<hugebar::Error> for Error {
    fn from(error: hugebar::Error) -> Self {
        use hugebar::ErrorKind as Library;
        let kind = match error.kind() {
            Library::NotFound => ErrorKind::NotFound,
            Library::PermissionDenied => ErrorKind::PermissionDenied,
            Library::InvalidInput => ErrorKind::InvalidInput,
            Library::Malformed => ErrorKind::Malformed,
            _ => ErrorKind::System,
        };
        Self {
            kind,
            subject: error.subject().to_owned(),
            operation: error.operation().to_owned(),
            errno: error.errno(),
            remedy: error.remedy().map(str::to_owned),
        }
    }
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::Function(error) => error.into(),
            crate::Error::Process { pid, source } => {
                Self::call(format!("process {pid}"), "looking at it", &source)
            }
            crate::Error::File { path, source } => Self::call(path, "reading it", &source),
        }
    }
}
