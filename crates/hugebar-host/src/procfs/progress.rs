//! Whether a look at a process gets on, told by the thread that looks to the one that waits.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How a look gets on.
#[derive(Debug, Default)]
pub(super) struct Progress {
    steps: AtomicU64,
    abandoned: AtomicBool,
}

impl Progress {
    /// How many steps there were.
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Nobody waits for the look any more.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Says that the look has got on.
    ///
    /// # Errors
    ///
    /// If nobody waits for it any more.
    pub(super) fn step(&self) -> io::Result<()> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_refused_once_nobody_waits() {
        let progress = Progress::default();
        assert!(progress.step().is_ok());
        assert_eq!(progress.steps(), 1);
        progress.abandon();
        let refused = progress.step().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    }
}
