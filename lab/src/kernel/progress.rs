//! How far a long step has got: a line on the terminal that follows its log, and nothing where nobody watches.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How often a program is looked after.
const INTERVAL: Duration = Duration::from_millis(200);

/// A step under way.
pub(super) struct Progress {
    what: &'static str,
    started: Instant,
    live: bool,
}

impl Progress {
    /// Begins a step.
    pub(super) fn start(what: &'static str) -> Self {
        Progress {
            what,
            started: Instant::now(),
            live: io::stderr().is_terminal(),
        }
    }

    /// Waits for a program, and shows how far its log has got.
    pub(super) fn wait(&mut self, child: &mut Child, log: &Path) -> Result<ExitStatus> {
        if !self.live {
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
            self.show(&counter.text());
            thread::sleep(INTERVAL);
        }
    }

    fn show(&self, counted: &str) {
        let passed = elapsed(self.started.elapsed());
        let _ = write!(
            io::stderr(),
            "\r\x1b[Klab: {}, {counted}{passed}",
            self.what
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.live {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Counts compiled files in a log that comes in pieces.
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

/// A time as a person says it.
pub(super) fn elapsed(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} min {seconds:02} s"),
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

    #[test]
    fn times_are_said_in_minutes_and_seconds() {
        assert_eq!(elapsed(Duration::from_secs(59)), "59 s");
        assert_eq!(elapsed(Duration::from_secs(367)), "6 min 07 s");
    }
}
