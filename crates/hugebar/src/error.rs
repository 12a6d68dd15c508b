//! The crate's error: what failed, on what, with which errno, and what to do about it.

use std::borrow::Cow;
use std::fmt;

use rustix::io::Errno;

use crate::layout::LayoutError;

/// A `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it was, for programs to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such device, region or file.
    NotFound,
    /// The device is not bound to a VFIO driver.
    NotBound,
    /// The device has no IOMMU group: the IOMMU is off.
    NoIommu,
    /// The IOMMU cannot remap interrupts, which VFIO insists on.
    NoInterruptRemapping,
    /// Firmware demands that the device's IOMMU group reaches a range of memory, so the kernel gives it to nobody
    /// ([`crate::pci::DirectRegion`]).
    FirmwareReserved,
    /// A device of the IOMMU group is in the hands of a driver that is not VFIO's.
    GroupNotViable,
    /// Somebody else has the device, group or address.
    Busy,
    /// The process lacks the permission.
    PermissionDenied,
    /// Memory decode of the device may be off, or the container cannot map device memory.
    NotMappableForDma,
    /// The region cannot be mapped, or the kernel lacks what was asked for.
    Unsupported,
    /// The caller's arguments do not fit together.
    InvalidInput,
    /// The device or its driver said something that cannot be.
    Malformed,
    /// There are no addresses or no memory left for it.
    OutOfMemory,
    /// Something had populated the mapping before, so its leaves cannot be counted.
    AlreadyPopulated,
    /// A count that does not add up.
    Miscounted,
    /// The caller's callback asked to stop.
    Stopped,
    /// Any other refusal by the kernel.
    System,
}

/// What failed.
///
/// Shown as one line: subject, operation, the kernel's words, and the remedy where one is known.
///
/// ```
/// let error = hugebar::vfio::Device::open("ffff:1f:1f.7".parse()?).unwrap_err();
/// assert_eq!(error.kind(), hugebar::ErrorKind::NotFound);
/// assert!(error.to_string().starts_with("ffff:1f:1f.7: "));
/// # Ok::<(), hugebar::Error>(())
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Cow<'static, str>,
    subject: String,
    errno: Option<Errno>,
    remedy: Option<Cow<'static, str>>,
}

impl Error {
    /// An error of a kind, in doing something: a system call, an ioctl, or a step in words.
    ///
    /// For implementations of this crate's traits, such as [`crate::populate::Populate`].
    pub fn new(kind: ErrorKind, operation: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation: operation.into(),
            subject: String::new(),
            errno: None,
            remedy: None,
        }))
    }

    /// A call that the kernel refused; the kind follows from the errno until a better one is known.
    pub(crate) fn call(operation: impl Into<Cow<'static, str>>, errno: Errno) -> Self {
        let kind = match errno {
            Errno::NOENT | Errno::NODEV | Errno::NXIO => ErrorKind::NotFound,
            Errno::PERM | Errno::ACCESS => ErrorKind::PermissionDenied,
            Errno::BUSY | Errno::EXIST => ErrorKind::Busy,
            Errno::NOMEM => ErrorKind::OutOfMemory,
            Errno::NOTTY | Errno::NOSYS => ErrorKind::Unsupported,
            _ => ErrorKind::System,
        };
        let mut error = Self::new(kind, operation);
        error.0.errno = Some(errno);
        error
    }

    pub(crate) fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Names what it happened to, unless that is known already.
    pub fn on(mut self, subject: impl fmt::Display) -> Self {
        if self.0.subject.is_empty() {
            self.0.subject = subject.to_string();
        }
        self
    }

    pub(crate) fn with_remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What was being done: a system call, an ioctl, or a step in words.
    pub fn operation(&self) -> &str {
        &self.0.operation
    }

    /// The device, region, file or address that it was done to; empty where there is none.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The kernel's error number, where a call failed.
    pub fn errno(&self) -> Option<i32> {
        self.0.errno.map(Errno::raw_os_error)
    }

    /// What failed and why, without what to do about it.
    pub fn fact(&self) -> String {
        let mut text = String::new();
        if !self.0.subject.is_empty() {
            text.push_str(&self.0.subject);
            text.push_str(": ");
        }
        text.push_str(&self.0.operation);
        if let Some(errno) = self.0.errno {
            text.push_str(": ");
            text.push_str(&std::io::Error::from(errno).to_string());
        }
        text
    }

    /// What to do about it, where that is known.
    pub fn remedy(&self) -> Option<&str> {
        self.0.remedy.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fact())?;
        match &self.0.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("operation", &self.0.operation)
            .field("subject", &self.0.subject)
            .field("errno", &self.0.errno)
            .field("remedy", &self.0.remedy)
            .finish()
    }
}

/// Its source is the kernel's error number, where a call failed; its words are shown already.
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let errno = self.0.errno.as_ref()?;
        Some(errno)
    }
}

impl From<LayoutError> for Error {
    fn from(error: LayoutError) -> Self {
        Self::new(ErrorKind::InvalidInput, error.to_string())
    }
}

/// With this error as its source, and of the kind that fits.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotBound | ErrorKind::NoIommu => Io::NotFound,
            ErrorKind::PermissionDenied => Io::PermissionDenied,
            ErrorKind::Busy => Io::ResourceBusy,
            ErrorKind::OutOfMemory => Io::OutOfMemory,
            ErrorKind::Unsupported => Io::Unsupported,
            ErrorKind::InvalidInput => Io::InvalidInput,
            ErrorKind::Malformed => Io::InvalidData,
            ErrorKind::Stopped => Io::Interrupted,
            _ => Io::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_subject_operation_errno_and_remedy() {
        let error = Error::call("VFIO_SET_IOMMU", Errno::PERM)
            .on("0000:00:10.0")
            .on("something outside")
            .with_remedy("turn on interrupt remapping");
        let text = "0000:00:10.0: VFIO_SET_IOMMU: Operation not permitted (os error 1); \
                    turn on interrupt remapping";
        assert_eq!(error.to_string(), text);
        let fact = "0000:00:10.0: VFIO_SET_IOMMU: Operation not permitted (os error 1)";
        assert_eq!(error.fact(), fact);
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(error.errno(), Some(1));
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
