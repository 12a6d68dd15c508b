//! `hugebar resize`: the sizes that a BAR can have, and changing its size.

use std::time::Duration;

use hugebar::leaf::Bytes;
use hugebar::pci;
use hugebar_host::admin::{self, Options};

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
    let Some(size) = args.size else {
        let report = ResizeReport::new(&before, &before, None, false);
        render::deliver(&report, args.json).map_err(Failure::Output)?;
        return Ok(Answer::Yes);
    };
    let mut options = Options::default();
    options.force = args.force;
    options.limit = Duration::from_secs(args.timeout);
    let plan = admin::resize(&function, bar, size, &options)?;
    plan.check()?;
    for own in &plan.uses {
        render::warn(format_args!("{}: {}", plan.device, own.fact));
    }
    let mut wanted = before.sizes.iter().filter(|own| own.size == size);
    if let Some(own) = wanted.find_map(|own| own.narrow.as_ref()) {
        let (device, window) = (plan.device, Bytes(own.window));
        let bridge = own.bridge;
        render::warn(format_args!(
            "{device}: bridge {bridge} has a window of {window} only"
        ));
    }
    if !args.dry_run {
        plan.run(|step| render::step(step))?;
    }
    let now = admin::bar_sizes(&function, bar)?;
    let report = ResizeReport::new(&before, &now, Some(&plan), args.dry_run);
    render::deliver(&report, args.json).map_err(Failure::Output)?;
    Ok(Answer::Yes)
}
