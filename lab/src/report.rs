//! The result of a boot: output and status of each command, or the guest's failure.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use hugebar_lab_guest::Status;

/// The result of a boot in which all commands ran.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One for each command that was started, in order.
    pub commands: Vec<Output>,
    /// The guest's `uname -r`; empty if the guest sent nothing.
    pub release: String,
    /// Everything that the kernel wrote to its console.
    pub console: String,
    /// The kernel's answer when it was asked for stacks after its time had run out: of blocked tasks, of the
    /// CPUs' tasks, and of all tasks. Empty if it did not answer, or was not asked.
    pub stacks: String,
    /// How many boots died before PID 1's first frame, and were repeated.
    pub boot_retries: u32,
    /// What the CPU was: `QEMU TCG` (emulated) or `KVM`.
    pub accelerator: &'static str,
    /// From the start of QEMU to PID 1's first frame, in the last boot.
    pub boot_time: Duration,
    /// From the start of QEMU to its end, in the last boot.
    pub total_time: Duration,
}

impl Report {
    /// Lists the commands that have not ended, with their output.
    fn unfinished(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A command without any output is unknown here: it follows the last one.
        let ended = self
            .commands
            .iter()
            .filter(|own| own.status.is_some())
            .count();
        if !self.commands.is_empty() {
            write!(f, "\ncommands that have ended: {ended}")?;
        }
        let running = |(_, own): &(usize, &Output)| own.status.is_none();
        for (index, own) in self.commands.iter().enumerate().filter(running) {
            write!(
                f,
                "\ncommand {index} has not; it printed {:?}",
                own.stdout()
            )?;
        }
        Ok(())
    }
}

/// One command's output and end.
#[derive(Clone, Default)]
pub struct Output {
    /// `None` if the guest ended before the command.
    pub status: Option<Status>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// How long it ran, by the guest's clock.
    pub wall: Duration,
}

impl Output {
    /// Its exit status as a shell shows it; 125 if the guest ended before it.
    pub fn code(&self) -> i32 {
        self.status.map_or(125, Status::code)
    }

    /// Whether it ended by itself with status 0.
    pub fn success(&self) -> bool {
        self.status.is_some_and(Status::success)
    }

    /// Its standard output as text.
    pub fn stdout(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// Its standard error as text.
    pub fn stderr(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("status", &self.status)
            .field("stdout", &self.stdout())
            .field("stderr", &self.stderr())
            .field("wall", &self.wall)
            .finish()
    }
}

/// One of a command's two streams of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The guest did not run all commands.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What happened.
    pub kind: FailureKind,
    /// The results until then.
    pub report: Report,
}

/// Why a guest did not run all commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// It panicked, oopsed, or hung: the first line on the console that reports it.
    Crashed(String),
    /// Its time ran out.
    TimedOut(Duration),
    /// PID 1 could not set up the guest, for this reason.
    Setup(String),
    /// QEMU did not run the guest.
    Machine(String),
}

impl Failure {
    /// The exit status for it: 125 for a crash, 124 for a time-out, 2 for the rest.
    pub fn code(&self) -> u8 {
        match self.kind {
            FailureKind::Crashed(_) => 125,
            FailureKind::TimedOut(_) => 124,
            FailureKind::Setup(_) | FailureKind::Machine(_) => 2,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FailureKind::Crashed(line) => write!(f, "the guest crashed: {line}")?,
            FailureKind::TimedOut(limit) => {
                write!(
                    f,
                    "the guest did not finish within {} s",
                    limit.as_secs_f64()
                )?;
            }
            FailureKind::Setup(reason) => write!(f, "the guest could not be set up: {reason}")?,
            FailureKind::Machine(reason) => write!(f, "the machine did not run: {reason}")?,
        }
        self.report.unfinished(f)?;
        if !self.report.console.is_empty() {
            writeln!(f, "\nfrom its console:")?;
            for line in crate::console::excerpt(&self.report.console) {
                writeln!(f, "  {line}")?;
            }
        }
        if !self.report.stacks.is_empty() {
            writeln!(f, "\nits stacks, when it was asked for them:")?;
            for line in crate::console::beginning(&self.report.stacks) {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

impl Error for Failure {}
