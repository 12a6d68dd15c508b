//! `hugebar vf`: creates, counts and removes virtual functions.

use std::time::Duration;

use hugebar::pci;
use hugebar_host::admin::{self, Options};

use crate::args::VfArgs;
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, VfReport};

/// Runs the command.
pub(crate) fn run(args: &VfArgs) -> Result<Answer, Failure> {
    let function = pci::locate(&args.device)?;
    let before = admin::virtual_functions(&function)?;
    let Some(number) = args.number else {
        let report = VfReport::new(&before, &before, None, false);
        render::deliver(&report, args.json).map_err(Failure::Output)?;
        return Ok(Answer::Yes);
    };
    let mut options = Options::default();
    options.force = args.force;
    options.limit = Duration::from_secs(args.timeout);
    let plan = admin::set_virtual_functions(&function, number, &options)?;
    plan.check()?;
    for own in &plan.uses {
        render::warn(format_args!("{}: {}", plan.device, own.fact));
    }
    if !args.dry_run {
        plan.run(|step| render::step(step))?;
    }
    let now = admin::virtual_functions(&function)?;
    let report = VfReport::new(&before, &now, Some(&plan), args.dry_run);
    render::deliver(&report, args.json).map_err(Failure::Output)?;
    Ok(Answer::Yes)
}
