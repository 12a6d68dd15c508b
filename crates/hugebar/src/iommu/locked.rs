//! The limit that memory for DMA counts towards.

use crate::error::{Error, ErrorKind, Result};
use crate::facts::Status;
use crate::leaf::Bytes;
use crate::sys::process;

/// `CAP_IPC_LOCK`: no limit for locked memory.
const CAP_IPC_LOCK: u32 = 14;

/// The remedy for a limit that is too low.
pub(super) const REMEDY: &str = "raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK= of systemd)";

/// The limit of locked memory of this process, and how much is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    bytes: u64,
    used: u64,
}

impl Limit {
    /// The limit that a type1 container enforces (`vfio_lock_acct`); none with `CAP_IPC_LOCK`.
    fn of_this_process() -> Option<Self> {
        let bytes = process::locked_memory_limit()?;
        let status = Status::own().unwrap_or_default();
        let capable = |capabilities: u64| capabilities >> CAP_IPC_LOCK & 1 == 1;
        // Without /proc only the kernel knows.
        let unlimited = status.effective_capabilities.is_none_or(capable);
        (!unlimited).then_some(Self {
            bytes,
            used: status.vm_locked.unwrap_or(0),
        })
    }

    fn left(self) -> u64 {
        self.bytes.saturating_sub(self.used)
    }
}

/// How much more memory this process may lock; `None` without a limit, or if it is not known.
pub(super) fn left() -> Option<u64> {
    Limit::of_this_process().map(Limit::left)
}

/// Whether `bytes` more may be locked.
pub(super) fn check(bytes: u64) -> Result<()> {
    match Limit::of_this_process() {
        Some(limit) if bytes > limit.left() => Err(refused(bytes, limit)),
        _ => Ok(()),
    }
}

fn refused(bytes: u64, limit: Limit) -> Error {
    let operation = format!(
        "RLIMIT_MEMLOCK is {}, of which {} are locked",
        Bytes(limit.bytes),
        Bytes(limit.used)
    );
    Error::new(ErrorKind::OutOfMemory, operation)
        .on(format!("{} for DMA", Bytes(bytes)))
        .with_remedy(REMEDY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_and_what_is_said() {
        let limit = Limit {
            bytes: 8 << 20,
            used: 3 << 20,
        };
        assert_eq!(limit.left(), 5 << 20);
        let over = Limit {
            bytes: 1,
            used: u64::MAX,
        };
        assert_eq!(over.left(), 0);
        let said = "64 MiB for DMA: RLIMIT_MEMLOCK is 8 MiB, of which 3 MiB are locked; raise RLIMIT_MEMLOCK";
        let error = refused(64 << 20, limit);
        assert!(error.to_string().starts_with(said), "{error}");
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    }
}
