//! The line to the host: a serial port, in raw mode, shared by the threads that send frames.

use std::fs::{File, OpenOptions};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use hugebar_lab_guest::Frame;
use rustix::termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr};

/// The port beside the console's.
#[cfg(target_arch = "x86_64")]
const PORT: &str = "/dev/ttyS1";

/// The first port of its kind: the console's is `ttyAMA0`.
#[cfg(target_arch = "aarch64")]
const PORT: &str = "/dev/ttyS0";

/// The line to the host.
pub(crate) struct Line(Mutex<File>);

impl Line {
    /// Opens the port and turns off all terminal processing.
    pub(crate) fn open() -> Result<Self> {
        let port = OpenOptions::new()
            .read(true)
            .write(true)
            .open(PORT)
            .with_context(|| format!("cannot open {PORT}"))?;
        let mut mode = tcgetattr(&port).with_context(|| format!("{PORT} is no terminal"))?;
        mode.make_raw();
        tcsetattr(&port, OptionalActions::Now, &mode)
            .with_context(|| format!("cannot set the mode of {PORT}"))?;
        Ok(Line(Mutex::new(port)))
    }

    /// Sends one frame, whole.
    pub(crate) fn send(&self, frame: &Frame) -> Result<()> {
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        frame.write(&mut *port).context("the line to the host")
    }

    /// Waits until the last byte is out.
    pub(crate) fn drain(&self) -> Result<()> {
        let port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tcdrain(&*port).context("the line to the host")
    }
}
