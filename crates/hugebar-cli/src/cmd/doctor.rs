//! `hugebar doctor`: the way from firmware to mapping, step by step.

use hugebar::facts::Facts;
use hugebar::pci;

use crate::Answer;
use crate::args::DoctorArgs;
use crate::failure::{Failure, host};
use crate::host::{device, health, procfs};
use crate::output::{self, DoctorReport};

/// Runs the command.
pub(crate) fn run(args: &DoctorArgs) -> Result<Answer, Failure> {
    procfs::check().map_err(host("/proc/self"))?;
    let facts = Facts::observe();
    let mut report = DoctorReport::new(&facts);
    let function = args.device.as_deref().map(pci::locate).transpose()?;
    report.steps = health::steps(&facts);
    if let Some(function) = &function {
        report.device = Some(function.address().to_string());
        report.steps.extend(device::steps(function, facts.kernel)?);
    }
    output::deliver(&report, args.json)?;
    Ok(if report.blocked() {
        Answer::No
    } else {
        Answer::Yes
    })
}
