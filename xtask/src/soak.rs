//! `cargo xtask soak`: checks that take too long for a test.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use hugebar_lab::cache::Cache;
use hugebar_lab::root::{BOOKWORM, Release, Root, TRIXIE};

use crate::shared::Consent;

/// README, which shows the demo's output.
const README: &str = include_str!("../../README.md");

/// Follow README as a new user would: the demo in fresh roots of Debian 12 and 13.
///
/// Each root has only Debian's Rust and a clone of this repository's commit. The demo has to print README's rows, except for the times. Takes about seven minutes on two CPUs and 2.3 GiB of disk, and needs root.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this release: bookworm or trixie
    #[arg(long, value_name = "SUITE", value_parser = ["bookworm", "trixie"])]
    suite: Option<String>,
    #[command(flatten)]
    consent: Consent,
}

/// Runs the demo on each release, even after a failure.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let expected = rows(README)?;
    let mut code = ExitCode::SUCCESS;
    for release in [BOOKWORM, TRIXIE] {
        let suite = release.suite;
        if args.suite.as_deref().is_some_and(|only| only != suite) {
            continue;
        }
        println!("== the demo on a fresh Debian {suite}");
        match demo(release, args.consent.yes, &expected) {
            Ok(()) => println!("== ok: {suite}"),
            Err(error) => {
                println!("== FAILED: {suite}: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn demo(release: Release, yes: bool, expected: &[String]) -> Result<()> {
    let root = Root::fresh(release, release.rust, &Cache::open()?, yes)?;
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let clone = Command::new("git")
        .args(["clone", "--quiet", "--no-local"])
        .arg(checkout)
        .arg(root.path("/root/hugebar"))
        .status()
        .context("git")?;
    ensure!(clone.success(), "git clone: {clone}");
    let output = root
        .command("cd /root/hugebar && exec cargo xtask demo")
        .stderr(Stdio::inherit())
        .output()
        .context("unshare")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    print!("{printed}");
    ensure!(output.status.success(), "{}", output.status);
    let found = rows(&printed)?;
    ensure!(found == expected, "README has {expected:#?}");
    Ok(())
}

/// The rows of the demo's table, without the times, which take two words: a number and its unit.
fn rows(text: &str) -> Result<Vec<String>> {
    let row = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (rest, last) = words.split_at_checked(words.len().checked_sub(3)?)?;
        Some(format!("{} {}", rest.join(" "), last.last()?))
    };
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| line.starts_with("BAR "));
    let rows: Vec<_> = lines
        .filter(|line| !line.ends_with("verdict"))
        .filter_map(row)
        .collect();
    ensure!(!rows.is_empty(), "no rows: {text}");
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_compared_without_their_times() {
        let table = "\
BAR           placement   1 GiB  2 MiB      4 KiB     faults     time  verdict
BAR 2, 4 GiB  plain           0      0  1,048,576  1,048,576   7.65 s  as-expected
BAR 2, 4 GiB  congruent       4      0          0          4  0.75 ms  optimal
";
        let expected = [
            "BAR 2, 4 GiB plain 0 0 1,048,576 1,048,576 as-expected",
            "BAR 2, 4 GiB congruent 4 0 0 4 optimal",
        ];
        assert_eq!(rows(table).unwrap(), expected);
        assert!(rows("nothing").is_err());
    }

    #[test]
    fn readme_has_a_row_for_each_mapping() {
        assert_eq!(rows(README).unwrap().len(), 7);
    }
}
