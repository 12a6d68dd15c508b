//! `hugebar run`: becomes another program, with the library that gives its BARs large pages.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use hugebar::facts::{Facts, ThpDisabled};
use hugebar_host::escape::Escaped;
use hugebar_host::preload::{self, Program};

use crate::args::{Destination, RunArgs};
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render;

/// Runs the command, which returns only if it fails.
pub(crate) fn run(args: &RunArgs) -> Result<Answer, Failure> {
    match become_program(args)? {}
}

fn become_program(args: &RunArgs) -> Result<Infallible, Failure> {
    let Some((name, arguments)) = args.command.split_first() else {
        return Err(Failure::Usage("which program?".to_owned()));
    };
    let program = Program::find(name)?;
    let library = preload::library().ok_or_else(|| {
        let missing = "libhugebar_preload.so is neither beside this command nor in ../lib; \
                       build it with: cargo build --release -p hugebar-preload";
        Failure::Usage(missing.to_owned())
    })?;
    let before = env::var_os(preload::VARIABLE);
    let value = preload::value(&library, before.as_deref())?;
    render::step(format_args!(
        "{}={}",
        preload::VARIABLE,
        Escaped(&value.to_string_lossy())
    ));
    let mut command = Command::new(program.path());
    command
        .arg0(name)
        .args(arguments)
        .env(preload::VARIABLE, value);
    // Without the option the variable stays as it is: a script can set it for all that it starts.
    if let Some(destination) = &args.report {
        command.env(preload::REPORT_VARIABLE, report_to(destination)?);
    }
    enable_huge_pages(args.keep_thp)?;
    let error = command.exec();
    Err(Failure::Start(program.path().display().to_string(), error))
}

fn report_to(destination: &Destination) -> Result<OsString, Failure> {
    let (value, shown) = match destination {
        Destination::File(path) => (preload::report_to_file(path), path.display().to_string()),
        Destination::Descriptor(number) => (
            preload::report_to_descriptor(*number),
            format!("descriptor {number}"),
        ),
    };
    value.map_err(|error| Failure::Start(format!("--report: {shown}"), error))
}

/// A service manager or container runtime may have disabled transparent huge pages for all that it starts.
fn enable_huge_pages(keep: bool) -> Result<(), Failure> {
    const SET: &str = "transparent huge pages are disabled for this process (PR_SET_THP_DISABLE)";
    if Facts::observe().thp_disabled != ThpDisabled::Yes {
        return Ok(());
    }
    if keep {
        render::warn(format_args!("{SET}, so that the program gets base pages"));
        return Ok(());
    }
    let now = ThpDisabled::allow_hinted();
    let now = now.map_err(|error| Failure::Start("PR_SET_THP_DISABLE".to_owned(), error))?;
    let whose = match now {
        ThpDisabled::ExceptAdvised => "for hinted memory",
        _ => "as the policy says",
    };
    render::note(format_args!("{SET}: enabled again {whose}"));
    Ok(())
}
