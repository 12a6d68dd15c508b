//! What the command prints: reports as text and as JSON, messages, progress.

mod bind;
mod device;
mod doctor;
mod failure;
mod inspect;
mod json;
mod list;
mod map;
mod plan;
mod print;
mod progress;
mod resize;
#[cfg(test)]
mod schema;
mod show;
mod show_text;
mod table;
mod uses;
mod vf;

pub(crate) use bind::BindReport;
pub(crate) use doctor::DoctorReport;
pub(crate) use failure::{FailureReport, tell_failure, tell_failure_of};
pub(crate) use inspect::InspectReport;
pub(crate) use list::ListReport;
pub(crate) use map::MapReport;
pub(crate) use plan::PlanReport;
pub(crate) use print::{deliver, deliver_raw, note, print_json, set_verbose, step, warn};
pub(crate) use progress::Bar;
pub(crate) use resize::ResizeReport;
pub(crate) use show::ShowReport;
pub(crate) use vf::VfReport;
