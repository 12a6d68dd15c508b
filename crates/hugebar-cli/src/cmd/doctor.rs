//! `hugebar doctor`: checks everything between firmware and mapping, step by step.

use hugebar::facts::Facts;
use hugebar::pci;
use hugebar_host::doctor;

use crate::args::DoctorArgs;
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, DoctorReport};

/// Runs the command.
pub(crate) fn run(args: &DoctorArgs) -> Result<Answer, Failure> {
    let facts = Facts::observe();
    let mut report = DoctorReport::new(&facts);
    report.steps = doctor::host(&facts)?;
    let function = args.device.as_deref().map(pci::locate).transpose()?;
    if let Some(function) = &function {
        report.device = Some(function.address().to_string());
        report.steps.extend(doctor::device(function, &facts)?);
    }
    render::deliver(&report, args.json).map_err(Failure::Output)?;
    Ok(Answer::of(!report.is_blocked()))
}
