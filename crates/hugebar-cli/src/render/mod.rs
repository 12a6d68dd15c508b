//! What the command prints: reports as text and as JSON, messages, progress.

mod doctor;
mod failure;
mod inspect;
mod json;
mod map;
mod print;
mod progress;

pub(crate) use doctor::DoctorReport;
pub(crate) use failure::{FailureReport, tell_failure, tell_failure_of};
pub(crate) use inspect::InspectReport;
pub(crate) use map::MapReport;
pub(crate) use print::{deliver, note, print_json, set_verbose, step, warn};
pub(crate) use progress::Bar;
