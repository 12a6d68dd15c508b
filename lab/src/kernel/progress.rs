//! Progress of a long step: a line on the terminal that follows its log; nothing if stderr is not a terminal.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// How often a program is checked.
const INTERVAL: Duration = Duration::from_millis(200);

/// A step in progress.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Begins a step.
    pub(super) fn start(what: &'static str) -> Self {
        // On stderr, and hidden if that is not a terminal.
        let bar = ProgressBar::new_spinner().with_prefix(what);
        if let Ok(style) = ProgressStyle::with_template("lab: {prefix}, {msg}{elapsed_precise}") {
            bar.set_style(style);
        }
        Progress(bar)
    }

    /// Waits for a program, and shows the progress of its log.
    pub(super) fn wait(&self, child: &mut Child, log: &Path) -> Result<ExitStatus> {
        if self.0.is_hidden() {
            return Ok(child.wait()?);
        }
        let mut log = File::open(log)?;
        let mut counter = Counter::default();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let mut new = Vec::new();
            log.read_to_end(&mut new)?;
            counter.add(&new);
            self.0.set_message(counter.text());
            self.0.tick();
            thread::sleep(INTERVAL);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Counts compiled files in a log that arrives in pieces.
#[derive(Default)]
struct Counter {
    compiled: usize,
    line: Vec<u8>,
}

impl Counter {
    fn add(&mut self, piece: &[u8]) {
        for &byte in piece {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            if [&b"  CC "[..], b"  AS "]
                .iter()
                .any(|start| self.line.starts_with(start))
            {
                self.compiled += 1;
            }
            self.line.clear();
        }
    }

    fn text(&self) -> String {
        match self.compiled {
            0 => String::new(),
            files => format!("{files} files, "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiled_files_are_counted_across_pieces() {
        let mut counter = Counter::default();
        for piece in [
            "  HOSTCC  scripts/x\n  C",
            "C      a.o\n  AS      b.o\n",
            "  AR      built-in.a\n  CC      c.",
        ] {
            counter.add(piece.as_bytes());
        }
        assert_eq!(counter.text(), "2 files, ");
        counter.add(b"o\n");
        assert_eq!(counter.compiled, 3);
    }
}
