//! The crate's error: operation, subject, errno and remedy.

use std::borrow::Cow;
use std::fmt;

use rustix::io::Errno;

use crate::layout::LayoutError;

/// A `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of error, for programs to act on.
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
    /// The IOMMU cannot remap interrupts, which VFIO requires.
    NoInterruptRemapping,
    /// Firmware demands access to a range of memory for the device's IOMMU group, so the kernel gives the group to no
    /// program ([`crate::pci::DirectRegion`]).
    FirmwareReserved,
    /// Another device of the IOMMU group is bound to a driver that is not VFIO's.
    GroupNotViable,
    /// The device, group or address is in use.
    Busy,
    /// The process lacks permission.
    PermissionDenied,
    /// Memory decode of the device may be off, or the container cannot map device memory.
    NotMappableForDma,
    /// The region cannot be mapped, or the kernel lacks a feature.
    Unsupported,
    /// The caller's arguments do not fit together.
    InvalidInput,
    /// The device or its driver gave an invalid answer.
    Malformed,
    /// No addresses or no memory are left.
    OutOfMemory,
    /// The mapping was populated before, so its leaves cannot be counted.
    AlreadyPopulated,
    /// The fault count matches no combination of leaf sizes.
    Miscounted,
    /// The caller's callback asked to stop.
    Stopped,
    /// Any other refusal by the kernel.
    System,
}

/// An error of this crate.
///
/// Displayed as one line: subject, operation, the kernel's error, and the remedy if one is known.
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
    /// Makes an error. `operation` is a system call, an ioctl, or a description of the step.
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

    /// Makes an error for a call that the kernel refused. The kind follows from the errno unless
    /// [`Error::of_kind`] sets it.
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

    /// Sets the subject, unless it is already set.
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

    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed: a system call, an ioctl, or a description of the step.
    pub fn operation(&self) -> &str {
        &self.0.operation
    }

    /// The device, region, file or address of the operation; empty if there is none.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The kernel's error number, if a call failed.
    pub fn errno(&self) -> Option<i32> {
        self.0.errno.map(Errno::raw_os_error)
    }

    /// The error without its remedy.
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

    /// What to do about it, if that is known.
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

/// The source is the kernel's error number, if a call failed. `Display` already includes it.
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

/// Keeps this error as the source, and chooses the matching kind.
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
