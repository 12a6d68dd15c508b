//! Errors for C: a negative errno, and a message of the thread.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use hugebar::ErrorKind;

/// This library's version.
const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version contains no NUL"),
    };

thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::default();
}

/// Why a function failed.
#[derive(Debug)]
pub(crate) struct Failure {
    errno: c_int,
    message: String,
}

/// A `Result` of a function's body.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Makes one; `errno` is positive.
    pub(crate) fn new(errno: c_int, message: impl Into<String>) -> Self {
        Self {
            errno,
            message: message.into(),
        }
    }
}

impl<E: Into<hugebar::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let errno = error.errno().unwrap_or_else(|| errno_of(error.kind()));
        Self::new(errno, error.to_string())
    }
}

/// The errno for an error that no system call returned. docs/c.md lists them.
fn errno_of(kind: ErrorKind) -> c_int {
    match kind {
        ErrorKind::NotFound => libc::ENOENT,
        ErrorKind::NotBound | ErrorKind::NoIommu => libc::ENODEV,
        ErrorKind::NoInterruptRemapping
        | ErrorKind::FirmwareReserved
        | ErrorKind::GroupNotViable => libc::EPERM,
        ErrorKind::Busy => libc::EBUSY,
        ErrorKind::PermissionDenied => libc::EACCES,
        ErrorKind::NotMappableForDma => libc::ENXIO,
        ErrorKind::Unsupported => libc::ENOTSUP,
        ErrorKind::InvalidInput => libc::EINVAL,
        ErrorKind::Malformed => libc::EPROTO,
        ErrorKind::OutOfMemory => libc::ENOMEM,
        ErrorKind::AlreadyPopulated => libc::EALREADY,
        ErrorKind::Miscounted => libc::EAGAIN,
        ErrorKind::Stopped => libc::EINTR,
        _ => libc::EIO,
    }
}

/// Runs a function's body: returns 0, or a negative errno after setting the thread's message. A panic is an error too.
pub(crate) fn call(body: impl FnOnce() -> Result<()>) -> c_int {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return 0,
        Ok(Err(failure)) => failure,
        Err(payload) => {
            let message = format!("hugebar panicked: {}", said(&*payload));
            // Its destructor could panic again.
            std::mem::forget(payload);
            Failure::new(libc::ENOTRECOVERABLE, message)
        }
    };
    let text = failure.message.replace('\0', " ");
    let text = CString::new(text).unwrap_or_default();
    // A thread that is ending has no message any more.
    let _ = MESSAGE.try_with(|message| *message.borrow_mut() = text);
    -failure.errno
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    let text = owned.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("without a message")
}

/// The version of the library, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_version() -> *const c_char {
    VERSION.as_ptr()
}

/// One line about the last error of this thread: subject, operation, the kernel's error, and the remedy if one is known.
/// Empty if there was none. Valid until the next function fails in this thread, or the thread ends.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_error_message() -> *const c_char {
    let message = MESSAGE.try_with(|message| message.borrow().as_ptr());
    message.unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> String {
        // SAFETY: the message is valid until the next error of this thread.
        let text = unsafe { CStr::from_ptr(hugebar_error_message()) };
        text.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_is_an_error() {
        for panics in [
            || -> Result<()> { panic!("at {}", 7) },
            || -> Result<()> { panic!("at 7") },
        ] {
            assert_eq!(call(panics), -libc::ENOTRECOVERABLE);
            assert_eq!(message(), "hugebar panicked: at 7");
        }
        let odd = || -> Result<()> { std::panic::panic_any(7) };
        assert_eq!(call(odd), -libc::ENOTRECOVERABLE);
        assert_eq!(message(), "hugebar panicked: without a message");
    }

    #[test]
    fn messages_belong_to_a_thread_and_stay_until_the_next_error() {
        let fails = || call(|| Err(Failure::new(libc::EBUSY, "a\0b")));
        assert_eq!(fails(), -libc::EBUSY);
        assert_eq!(call(|| Ok(())), 0);
        assert_eq!(message(), "a b");
        std::thread::spawn(|| assert_eq!(message(), ""))
            .join()
            .unwrap();
    }

    #[test]
    fn the_kernels_error_wins() {
        let missing = "ffff:1f:1f.7".parse().unwrap();
        let failure = Failure::from(hugebar::vfio::Device::open(missing).unwrap_err());
        assert_eq!(failure.errno, libc::ENOENT, "{failure:?}");
        let lacking = hugebar::Error::new(ErrorKind::Unsupported, "nothing");
        assert_eq!(Failure::from(lacking).errno, libc::ENOTSUP);
    }
}
