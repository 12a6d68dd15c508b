//! The progress bar of `hugebar bench`.

use std::time::{Duration, Instant};

use hugebar_host::bench::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long work runs before a bar is shown.
const QUIET: Duration = Duration::from_secs(1);

/// Shows how many mappings are measured, on a terminal.
pub(crate) struct Rounds {
    bar: ProgressBar,
    begin: Instant,
}

impl Rounds {
    pub(crate) fn new(name: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:32} {pos} of {len} mappings")
        {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        let begin = Instant::now();
        Self { bar, begin }
    }

    pub(crate) fn show(&self, progress: Progress) {
        if self.begin.elapsed() < QUIET {
            return;
        }
        if self.bar.is_hidden() {
            // Stays hidden where stderr is no terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
