//! `hugebar resize`: the sizes that a BAR can have, and changing its size.

use hugebar::pci;
use hugebar_host::admin;

use super::change;
use crate::args::ResizeArgs;
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, ResizeReport};

/// Runs the command.
pub(crate) fn run(args: &ResizeArgs) -> Result<Answer, Failure> {
    let function = pci::locate(&args.device)?;
    let wrong = |_| Failure::Usage(format!("no BAR {}", args.bar));
    let bar = u8::try_from(args.bar).map_err(wrong)?;
    let before = admin::bar_sizes(&function, bar)?;
    let mut plan = None;
    if let Some(size) = args.size {
        let options = change::options(&args.change, args.force);
        let plan = plan.insert(admin::resize(&function, bar, size, &options)?);
        plan.check()?;
        change::warn_of_uses(plan);
        let mut wanted = before.sizes.iter().filter(|own| own.size == size);
        if let Some(own) = wanted.find_map(|own| own.narrow.as_ref()) {
            render::warn(format_args!("{}: {own} only", plan.device));
        }
        change::run(&args.change, plan)?;
    }
    let now = match plan {
        Some(_) => admin::bar_sizes(&function, bar)?,
        None => before.clone(),
    };
    let report = ResizeReport::new(&before, &now, plan.as_ref(), args.change.dry_run);
    render::deliver(&report, args.change.json).map_err(Failure::Output)?;
    Ok(Answer::Yes)
}
