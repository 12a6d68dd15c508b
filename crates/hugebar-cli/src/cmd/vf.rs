//! `hugebar vf`: creates, counts and removes virtual functions.

use hugebar::pci;
use hugebar_host::admin;

use super::change;
use crate::args::VfArgs;
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, VfReport};

/// Runs the command.
pub(crate) fn run(args: &VfArgs) -> Result<Answer, Failure> {
    let function = pci::locate(&args.device)?;
    let before = admin::virtual_functions(&function)?;
    let mut plan = None;
    if let Some(number) = args.number {
        let options = change::options(&args.change, args.force);
        let plan = plan.insert(admin::set_virtual_functions(&function, number, &options)?);
        plan.check()?;
        change::warn_of_uses(plan);
        change::run(&args.change, plan)?;
    }
    let now = match plan {
        Some(_) => admin::virtual_functions(&function)?,
        None => before.clone(),
    };
    let mut report = VfReport::new(&before, &now, plan.as_ref(), args.change.dry_run);
    report.choose(&args.table.columns, !args.table.no_headings);
    render::deliver(&report, args.change.json).map_err(Failure::Output)?;
    Ok(Answer::Yes)
}
