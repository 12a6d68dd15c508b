//! Arguments of `run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args as Arguments;

#[derive(Arguments, Debug)]
pub(crate) struct RunArgs {
    /// Leave PR_SET_THP_DISABLE as it is, which limits mappings to base pages
    #[arg(long)]
    pub(crate) keep_thp: bool,

    /// Report each mapping of a device as a line of JSON: to a file, or to an open descriptor (a number)
    #[arg(long, value_name = "FILE|FD", value_parser = parse_destination)]
    pub(crate) report: Option<Destination>,

    /// The program and its arguments
    #[arg(
        value_name = "PROGRAM",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<OsString>,
}

/// Where `run` reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    File(PathBuf),
    Descriptor(u32),
}

fn parse_destination(text: &str) -> Result<Destination, String> {
    if text.is_empty() {
        return Err("an empty name is not a file".to_owned());
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Ok(Destination::Descriptor(number)),
        _ => Ok(Destination::File(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser as _;

    #[test]
    fn a_program_keeps_its_own_options() {
        let words = [
            "hugebar", "run", "--report", "7", "qemu", "--report", "-v", "x",
        ];
        let parsed = Args::try_parse_from(words).unwrap();
        let Command::Run(run) = &parsed.command else {
            panic!("{parsed:?}");
        };
        assert_eq!(run.command, ["qemu", "--report", "-v", "x"]);
        assert_eq!(run.report, Some(Destination::Descriptor(7)));
        assert!(!run.keep_thp && !parsed.verbose);
        let words = ["hugebar", "run", "--report", "./7", "--", "-odd-"];
        let parsed = Args::try_parse_from(words).unwrap();
        let Command::Run(run) = &parsed.command else {
            panic!("{parsed:?}");
        };
        assert_eq!(run.command, ["-odd-"]);
        assert_eq!(run.report, Some(Destination::File("./7".into())));
        assert!(Args::try_parse_from(["hugebar", "run"]).is_err());
    }
}
