//! `hugebar doctor`: checks everything between firmware and mapping, step by step.

use std::path::Path;

use hugebar::facts::Facts;
use hugebar::pci;
use hugebar_host::doctor;

use super::{export, report};
use crate::args::{DoctorArgs, Target};
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, DoctorReport, Readers};

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
    if let Some(file) = &args.report {
        let text = report::text(&report, function.as_ref(), &facts, args.redact)?;
        if file == Path::new("-") {
            return export::write(Target::Stdout, &text);
        }
        render::replace(file, &text, Readers::Own)
            .map_err(|error| Failure::File(file.clone(), error))?;
        render::note(format_args!("the report is in {}", file.display()));
    }
    render::deliver(&report, args.json).map_err(Failure::Output)?;
    Ok(Answer::of(!report.is_blocked()))
}
