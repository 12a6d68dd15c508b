//! Signals that ask the command to end: it unmaps and closes everything first.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hugebar::facts::Status;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Whether one of SIGINT, SIGTERM and SIGHUP has come.
#[derive(Clone, Debug)]
pub(crate) struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Catches these signals (`sigaction`): the first no longer ends the process at once, a second one does. Signals
    /// that the parent has set to be ignored (`nohup`) stay ignored.
    pub(crate) fn catch() -> io::Result<Self> {
        let came = Arc::new(AtomicBool::new(false));
        let ignored = ignored();
        let heeded = |signal: &i32| ignored >> (signal - 1) & 1 == 0;
        for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(heeded) {
            // In this order: the second signal finds the flag set.
            signal_hook::flag::register_conditional_default(signal, came.clone())?;
            signal_hook::flag::register(signal, came.clone())?;
        }
        Ok(Self(came))
    }

    pub(crate) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps until a signal arrives.
    pub(crate) fn wait(&self) {
        while !self.came() {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The signals that this process ignores, as [`Status::ignored_signals`] has them.
fn ignored() -> u64 {
    let status = Status::own().ok();
    status
        .and_then(|status| status.ignored_signals)
        .unwrap_or(0)
}
