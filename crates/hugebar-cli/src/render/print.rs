//! Printing: reports to stdout, messages to stderr.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::json;

/// Version of every JSON document that the command prints.
pub(crate) const VERSION: u32 = 1;

/// Prints a report, as text or as JSON. A closed pipe is no error: the reader has seen enough, and the
/// exit status is the same.
pub(crate) fn deliver(report: &(impl Serialize + fmt::Display), json: bool) -> io::Result<()> {
    let printed = if json {
        print_json(report)
    } else {
        print(&report.to_string())
    };
    or_closed(printed)
}

/// Prints text for people.
pub(crate) fn deliver_text(text: &str) -> io::Result<()> {
    or_closed(print(text))
}

/// Prints bytes that are not for people to read.
pub(crate) fn deliver_raw(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    or_closed(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// The result of printing, without the error of a closed pipe.
fn or_closed(printed: io::Result<()>) -> io::Result<()> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Prints text to stdout, styled where stdout is a terminal.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

static VERBOSE: AtomicBool = AtomicBool::new(false);

/// Sets whether [`step`] prints anything.
pub(crate) fn set_verbose(verbose: bool) {
    VERBOSE.store(verbose, Ordering::Relaxed);
}

/// Prints a step to stderr, if `--verbose` was given.
pub(crate) fn step(message: impl fmt::Display) {
    if VERBOSE.load(Ordering::Relaxed) {
        tell(message);
    }
}

/// Warns on stderr.
pub(crate) fn warn(message: impl fmt::Display) {
    let style = Style::new().fg_color(Some(AnsiColor::Yellow.into())).bold();
    tell(format_args!("{style}warning{style:#}: {message}"));
}

/// Tells on stderr what a user may want to know.
pub(crate) fn note(message: impl fmt::Display) {
    tell(format_args!("note: {message}"));
}

/// Prints a line to stderr. If that fails, for example on a full disk, the command goes on.
pub(crate) fn tell(message: impl fmt::Display) {
    let _ = writeln!(anstream::stderr(), "{message}");
}

/// Prints a JSON document and a line end to stdout.
pub(crate) fn print_json(document: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    print(&json::shown(&text))
}
