//! The progress bar: on a terminal, for work of more than a second.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long work runs before a bar is shown.
const QUIET: Duration = Duration::from_secs(1);

/// What is counted, as a template.
const BYTES: &str = "{prefix} {bar:32} {binary_bytes} of {binary_total_bytes}";
const MAPPINGS: &str = "{prefix} {bar:32} {pos} of {len} mappings";

/// Shows how much of the work is done.
pub(crate) struct Bar {
    bar: ProgressBar,
    begin: Instant,
    /// Whether stderr was asked what it is. Asking takes system calls, which a measurement should not pay for each time.
    asked: Cell<bool>,
}

impl Bar {
    /// For work that is measured in bytes.
    pub(crate) fn of_bytes(name: &str) -> Self {
        Self::new(name, BYTES)
    }

    /// For work that is measured in mappings.
    pub(crate) fn of_mappings(name: &str) -> Self {
        Self::new(name, MAPPINGS)
    }

    fn new(name: &str, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        let begin = Instant::now();
        Self {
            bar,
            begin,
            asked: Cell::new(false),
        }
    }

    pub(crate) fn show(&self, done: u64, total: u64) {
        if self.begin.elapsed() < QUIET {
            return;
        }
        if !self.asked.replace(true) {
            // Stays hidden where stderr is no terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
