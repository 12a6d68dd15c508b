//! `hugebar completions` and `hugebar man`: what packages install beside the command.

use clap::CommandFactory;

use crate::args::{Args, CompletionsArgs, ManArgs};
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render;

/// The program's name.
const NAME: &str = "hugebar";

/// Prints the completions for a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Answer, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), NAME, &mut text);
    deliver(&text)
}

/// Prints the manual page of the program or of one of its commands.
pub(crate) fn man(args: &ManArgs) -> Result<Answer, Failure> {
    let mut program = Args::command();
    program.build();
    let page = match &args.command {
        None => program,
        Some(name) => match program.find_subcommand(name) {
            Some(command) => command.clone(),
            None => return Err(Failure::Usage(format!("hugebar has no command {name:?}"))),
        },
    };
    let mut text = Vec::new();
    let rendered = clap_mangen::Man::new(page).render(&mut text);
    rendered.map_err(Failure::Output)?;
    deliver(&text)
}

fn deliver(text: &[u8]) -> Result<Answer, Failure> {
    render::deliver_raw(text).map_err(Failure::Output)?;
    Ok(Answer::Yes)
}
