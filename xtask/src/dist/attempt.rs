//! Tries the packages: builds them again elsewhere, and installs and uses them on fresh Debians.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hugebar_lab::cache::Cache;
use hugebar_lab::root::{BOOKWORM, Root, TRIXIE};

use super::build::run;

/// What the script uses, besides what every Debian has. None of it is needed by the packages.
const PROGRAMS: [&str; 9] = [
    "bash-completion",
    "fish",
    "gcc",
    "libc6-dev",
    "lintian",
    "man-db",
    "pkg-config",
    "systemd",
    "zsh",
];

/// Runs in a root.
const SCRIPT: &str = include_str!("attempt.sh");

/// Builds them from a clone of the commit, and compares.
pub(super) fn again(workspace: &Path, packages: &[PathBuf]) -> Result<()> {
    println!("== building them again in another folder");
    let work = tempfile::Builder::new()
        .prefix("hugebar-dist-")
        .tempdir_in(Cache::open()?.dir("dist")?)?;
    let (clone, output) = (work.path().join("clone"), work.path().join("packages"));
    run(Command::new("git")
        .args(["clone", "--quiet", "--no-local"])
        .args([workspace, &clone]))?;
    run(Command::new("cargo")
        .args(["xtask", "dist", "--output"])
        .arg(&output)
        .current_dir(&clone))?;
    for path in packages {
        let name = path.file_name().context("a file has a name")?;
        let other = output.join(name);
        let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
        let name = name.to_string_lossy();
        ensure!(read(path)? == read(&other)?, "{name} differs");
        println!("== equal: {name}");
    }
    Ok(())
}

/// Installs and uses them in fresh roots.
pub(super) fn install(packages: &[PathBuf], yes: bool) -> Result<()> {
    for release in [BOOKWORM, TRIXIE] {
        let suite = release.suite;
        println!("== installing them on a fresh Debian {suite}");
        let root = Root::fresh(release, &PROGRAMS, &Cache::open()?, yes)?;
        let folder = root.path("/root/packages");
        fs::create_dir(&folder)?;
        for path in packages {
            fs::copy(
                path,
                folder.join(path.file_name().context("a file has a name")?),
            )?;
        }
        let status = root.command(SCRIPT).status().context("unshare")?;
        ensure!(status.success(), "Debian {suite}: {status}");
        println!("== ok: Debian {suite}");
    }
    Ok(())
}
