//! What the commands that change a device have in common.

use std::time::Duration;

use hugebar_host::admin::{Options, Plan};

use crate::args::ChangeArgs;
use crate::failure::Failure;
use crate::render;

/// How to change it.
pub(super) fn options(args: &ChangeArgs, force: bool) -> Options {
    let mut options = Options::default();
    options.force = force;
    options.limit = Duration::from_secs(args.timeout);
    options
}

/// Warns of what a plan overrules.
pub(super) fn warn_of_uses(plan: &Plan) {
    for own in &plan.uses {
        render::warn(format_args!("{}: {}", plan.device, own.fact));
    }
}

/// Does a plan that has been checked, unless the steps only have to be shown.
pub(super) fn run(args: &ChangeArgs, plan: &Plan) -> Result<(), Failure> {
    if !args.dry_run {
        plan.run(|step| render::step(step))?;
    }
    Ok(())
}
