//! `cargo xtask dist`: packages for Debian, equal for equal commits.

mod attempt;
mod build;
mod commit;
mod contents;
mod control;
mod licences;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use hugebar_lab::install;

use crate::shared::Consent;
use build::Build;
use commit::Commit;
use tree::Tree;

/// Build packages for this machine's Debian and newer ones: hugebar, libhugebar0 and libhugebar-dev.
///
/// Two builds of one commit have equal bytes, in whichever folder it was checked out, with the same Rust and Debian.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder for the packages [default: target/dist]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Also build them from a clone in another folder, compare, and install and use them in fresh roots of Debian 12 and 13. Needs root
    #[arg(long = "try")]
    attempt: bool,
    #[command(flatten)]
    consent: Consent,
}

/// Builds the packages, and tries them if asked to.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    install::ensure_dist(args.consent.yes)?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let workspace = workspace.canonicalize()?;
    let output = args.output.clone();
    let output = output.unwrap_or_else(|| workspace.join("target/dist"));
    fs::create_dir_all(&output).with_context(|| output.display().to_string())?;
    let packages = packages(&workspace, &output)?;
    for path in &packages {
        let size = fs::metadata(path)?.len();
        println!("{}  {size} bytes", path.display());
    }
    if args.attempt {
        attempt::again(&workspace, &packages)?;
        attempt::install(&packages, args.consent.yes)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn packages(workspace: &Path, output: &Path) -> Result<Vec<PathBuf>> {
    let commit = Commit::checked_out(workspace)?;
    let build = Build::make(workspace, &commit)?;
    let work = tempfile::tempdir()?;
    let mut made = Vec::new();
    for package in control::PACKAGES {
        remove_older(output, package.name)?;
        let tree = Tree::new(work.path().join(package.name))?;
        (package.contents)(&build, &commit, &tree)?;
        made.push(control::build(
            &package,
            &tree,
            &build.arch,
            &commit,
            output,
        )?);
    }
    Ok(made)
}

/// Removes packages of other commits, which `apt install DIR/*.deb` would be given beside the new ones.
fn remove_older(folder: &Path, package: &str) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&format!("{package}_")) && name.ends_with(".deb") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_older_packages_of_the_same_name_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "hugebar_0.1.0-1_amd64.deb",
            "hugebar-x_1_amd64.deb",
            "hugebar_notes",
        ];
        for name in names {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_older(folder.path(), "hugebar").unwrap();
        let left = names.map(|name| folder.path().join(name).exists());
        assert_eq!(left, [false, true, true]);
    }
}
