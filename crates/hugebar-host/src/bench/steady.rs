//! Populating in steps between which it can be stopped.

use std::ops::ControlFlow;
use std::time::Duration;

use hugebar::leaf::MIB;
use hugebar::mem::Span;
use hugebar::populate::Populate;
use hugebar::{Error, ErrorKind, Result};

/// A longer step would keep a signal waiting: base pages of 64 MiB are 16,384 faults.
const LONGEST: u64 = 64 * MIB;

/// Another way of populating, that asks before each step whether to go on.
pub(super) struct Steady<'a> {
    pub(super) populate: &'a mut dyn Populate,
    pub(super) go_on: &'a mut dyn FnMut() -> ControlFlow<()>,
}

impl Populate for Steady<'_> {
    fn name(&self) -> &'static str {
        self.populate.name()
    }

    fn populate(&mut self, span: &Span<'_>) -> Result<Duration> {
        if (self.go_on)().is_break() {
            return Err(stopped());
        }
        self.populate.populate(span)
    }

    fn longest(&self) -> u64 {
        self.populate.longest().min(LONGEST)
    }
}

pub(super) fn stopped() -> Error {
    Error::new(ErrorKind::Stopped, "the benchmark was stopped")
}
