//! `hugebar completions` and `hugebar man`: what packages install beside the command.

use clap::CommandFactory;

use crate::args::{Args, CompletionsArgs, ManArgs};
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, Page, Readers};

/// The program's name.
const NAME: &str = "hugebar";

/// Prints the completions for a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Answer, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), NAME, &mut text);
    deliver(&text)
}

/// Prints the manual page of the program or of one of its commands, or writes all pages to a folder.
pub(crate) fn man(args: &ManArgs) -> Result<Answer, Failure> {
    let mut program = Args::command().disable_help_subcommand(true);
    program.build();
    let page = |command| Page::of(command, &program).map_err(Failure::Output);
    if let Some(folder) = &args.output {
        for command in std::iter::once(&program).chain(program.get_subcommands()) {
            let Page { file, text } = page(command)?;
            let path = folder.join(file);
            let written = render::replace(&path, &text, Readers::All);
            written.map_err(|error| Failure::File(path, error))?;
        }
        return Ok(Answer::Yes);
    }
    let command = match &args.command {
        None => &program,
        Some(name) => program
            .find_subcommand(name)
            .ok_or_else(|| Failure::Usage(format!("hugebar has no command {name:?}")))?,
    };
    deliver(page(command)?.text.as_bytes())
}

fn deliver(text: &[u8]) -> Result<Answer, Failure> {
    render::deliver_raw(text).map_err(Failure::Output)?;
    Ok(Answer::Yes)
}
