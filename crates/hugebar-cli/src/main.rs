//! The `hugebar` command.

mod args;
mod cmd;
mod exit;
mod failure;
mod render;
mod signals;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind as UsageKind;

use args::{Args, Command};
use failure::Failure;
use render::FailureReport;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(usage) => return wrong_usage(&usage),
    };
    args.color.write_global();
    render::set_verbose(args.verbose);
    let json = args.json();
    let result = match &args.command {
        Command::Map(map) => cmd::map::run(map),
        Command::Bench(bench) => cmd::bench::run(bench),
        Command::Doctor(doctor) => cmd::doctor::run(doctor),
        Command::Inspect(inspect) => cmd::inspect::run(inspect),
        Command::Bind(bind) => cmd::bind::run(bind),
        Command::Restore(restore) => cmd::restore::run(restore),
        Command::Vf(vf) => cmd::vf::run(vf),
        Command::Resize(resize) => cmd::resize::run(resize),
        Command::Plan(plan) => cmd::plan::run(plan),
        Command::List(list) => cmd::list::run(list),
        Command::Show(show) => cmd::show::run(show),
        Command::Completions(own) => cmd::generate::completions(own),
        Command::Man(own) => cmd::generate::man(own),
        Command::Run(run) => cmd::run::run(run),
    };
    match result {
        Ok(answer) => answer.into(),
        Err(failure) => report(&failure, json),
    }
}

/// Reports a failure on stderr, and with `--json` also as JSON on stdout.
fn report(failure: &Failure, json: bool) -> ExitCode {
    render::tell_failure(failure);
    if json {
        // If stdout is gone, there is nowhere left to report it.
        let _ = render::print_json(&FailureReport::new(failure));
    }
    ExitCode::from(exit::FAILED)
}

/// Prints clap's output: help and version go to stdout and are not errors, a usage error is one line.
fn wrong_usage(usage: &clap::Error) -> ExitCode {
    let shown = [
        UsageKind::DisplayHelp,
        UsageKind::DisplayVersion,
        UsageKind::DisplayHelpOnMissingArgumentOrSubcommand,
    ];
    if shown.contains(&usage.kind()) {
        let printed = usage.print();
        let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        return match printed {
            Err(error) if !closed(&error) => report(&Failure::Output(error), false),
            _ if usage.use_stderr() => ExitCode::from(exit::FAILED),
            _ => ExitCode::SUCCESS,
        };
    }
    // Keep the error and clap's suggestions, drop the usage help behind them.
    let text = usage.to_string();
    let lines = text.lines().map(str::trim);
    let help = |line: &&str| line.starts_with("Usage:") || line.starts_with("For more information");
    let lines: Vec<_> = lines
        .take_while(|line| !help(line))
        .filter(|line| !line.is_empty())
        .collect();
    let message = lines.join(" ").replace(" tip: ", "; tip: ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let mut arguments = std::env::args_os().take_while(|argument| argument != "--");
    let json = arguments.any(|argument| argument == "--json");
    report(&Failure::Usage(message.to_owned()), json)
}
