//! The `hugebar` command.

mod args;
mod cmd;
mod failure;
mod host;
mod output;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use failure::Failure;

/// What a command that ran to its end has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Done, or yes.
    Yes,
    /// The answer is no: what was required is not so.
    No,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(usage) => return wrong_usage(&usage),
    };
    args.color.write_global();
    output::set_verbose(args.verbose);
    let json = args.json();
    let result = match &args.command {
        Command::Map(map) => cmd::map::run(map),
        Command::Doctor(doctor) => cmd::doctor::run(doctor),
        Command::Inspect(inspect) => cmd::inspect::run(inspect),
    };
    match result {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(failure) => report(&failure, json),
    }
}

/// Tells of a failure on stderr, and as JSON on stdout where that was asked for.
fn report(failure: &Failure, json: bool) -> ExitCode {
    anstream::eprintln!("hugebar: {failure}");
    if json {
        // If stdout is gone there is no way left to tell.
        let _ = output::print_json(&failure.report());
    }
    ExitCode::from(2)
}

/// Prints what clap has to say: help and version go to stdout and are no error.
fn wrong_usage(usage: &clap::Error) -> ExitCode {
    let _ = usage.print();
    if !usage.use_stderr() {
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().any(|argument| argument == "--json") {
        // What is wrong, without the help behind the empty line.
        let text = usage.to_string();
        let lines = text.lines().map(str::trim);
        let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        let message = lines.join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        let _ = output::print_json(&Failure::Usage(message.to_owned()).report());
    }
    ExitCode::from(2)
}
