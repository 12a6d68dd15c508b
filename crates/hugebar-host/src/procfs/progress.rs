//! Progress of a look at a process, which the looking thread reports to the waiting one.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The progress of a look.
#[derive(Debug, Default)]
pub(super) struct Progress {
    steps: AtomicU64,
    abandoned: AtomicBool,
}

impl Progress {
    /// The number of steps so far.
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Abandons the look: its next step fails.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Records progress of the look.
    ///
    /// # Errors
    ///
    /// If the look was abandoned.
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
