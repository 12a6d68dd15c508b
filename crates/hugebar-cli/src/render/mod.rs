//! What the command prints: reports as text and as JSON, messages, progress.

mod bench;
mod bind;
mod change;
mod device;
mod doctor;
mod failure;
mod inspect;
mod json;
mod list;
mod man;
mod map;
mod mappings;
mod metrics;
mod nfd;
mod plan;
mod print;
mod progress;
mod publish;
mod redact;
mod resize;
#[cfg(test)]
mod schema;
mod show;
mod show_text;
mod table;
mod vf;
mod wrap;

pub(crate) use bench::BenchReport;
pub(crate) use bind::BindReport;
pub(crate) use doctor::DoctorReport;
pub(crate) use failure::{FailureReport, tell_failure, tell_failure_of};
pub(crate) use inspect::InspectReport;
pub(crate) use list::ListReport;
pub(crate) use man::Page;
pub(crate) use map::MapReport;
pub(crate) use mappings::MappingTable;
pub(crate) use metrics::{bars, mappings};
pub(crate) use nfd::features;
pub(crate) use plan::PlanReport;
pub(crate) use print::{
    deliver, deliver_raw, deliver_text, note, print_json, set_verbose, step, warn,
};
pub(crate) use progress::Bar;
pub(crate) use publish::{Readers, replace};
pub(crate) use redact::{parameters as redacted_parameters, text as redacted};
pub(crate) use resize::ResizeReport;
pub(crate) use show::ShowReport;
pub(crate) use vf::VfReport;
