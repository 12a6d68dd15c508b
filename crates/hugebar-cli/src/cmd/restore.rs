//! `hugebar restore`: gives devices back to the drivers that they had.

use hugebar_host::admin;

use super::{bind, change};
use crate::args::RestoreArgs;
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render;

/// Runs the command.
pub(crate) fn run(args: &RestoreArgs) -> Result<Answer, Failure> {
    let options = change::options(&args.change, args.force);
    let functions = bind::functions(args)?;
    let plans = functions
        .iter()
        .map(|function| admin::restore(function, &options));
    let plans = plans.collect::<Result<Vec<_>, _>>()?;
    bind::run_all(args, &plans)?;
    for function in functions.iter().filter(|_| !args.change.dry_run) {
        for own in admin::lasting(function)? {
            render::warn(format_args!(
                "{}: {} binds it again at the next boot ({})",
                function.address(),
                own.path.display(),
                own.kind
            ));
        }
    }
    Ok(Answer::Yes)
}
