//! `hugebar show`: what is known about a device and its BARs.

use hugebar::facts::Facts;
use hugebar::pci::{self, Iomem};
use hugebar_host::doctor::{self, Status};
use hugebar_host::pci_ids::PciIds;
use hugebar_host::show;

use crate::args::ShowArgs;
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, ShowReport};

/// Runs the command.
pub(crate) fn run(args: &ShowArgs) -> Result<Answer, Failure> {
    let facts = Facts::observe();
    let function = pci::locate(&args.device)?;
    // Where it cannot be read, nothing is known to hold a BAR.
    let iomem = Iomem::read().unwrap_or_default();
    let shown = show::show(&function, &facts, &PciIds::read(), &iomem)?;
    let mut steps = doctor::host(&facts)?;
    steps.extend(doctor::device(&function, &facts)?);
    steps.retain(|step| step.status != Status::Ok);
    let report = ShowReport::new(&shown, &facts, &steps);
    render::deliver(&report, args.json).map_err(Failure::Output)?;
    Ok(Answer::Yes)
}
