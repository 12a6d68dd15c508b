//! The commit that is packaged: its time and version, which are all that a package says about its origin.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A commit.
pub(super) struct Commit {
    /// Its time in seconds, which files and packages bear (`SOURCE_DATE_EPOCH`).
    pub(super) epoch: String,
    /// The same as in Debian's changelogs.
    pub(super) date: String,
    /// Who has made it: name and address.
    pub(super) maintainer: String,
    /// The version of its packages.
    pub(super) version: String,
}

impl Commit {
    /// The one that is checked out. Warns of changes that are not committed, which get into the packages.
    pub(super) fn checked_out(workspace: &Path) -> Result<Self> {
        let git = |arguments: &[&str]| git(workspace, arguments);
        if !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() {
            eprintln!(
                "warning: with changes that are not committed: nobody else can build these packages"
            );
        }
        let log = git(&[
            "log",
            "-1",
            "--date=rfc",
            "--format=%ct%n%cd%n%cn <%ce>%n%cs%n%h",
        ])?;
        let lines: Vec<_> = log.lines().collect();
        let [epoch, date, maintainer, day, hash] = lines[..] else {
            anyhow::bail!("git log: {log}");
        };
        let release = env!("CARGO_PKG_VERSION");
        let tags = git(&["tag", "--points-at", "HEAD"])?;
        let is_release = tags.lines().any(|tag| tag == format!("v{release}"));
        Ok(Self {
            epoch: epoch.to_owned(),
            date: date.to_owned(),
            maintainer: maintainer.to_owned(),
            version: version(release, (!is_release).then_some((day, hash))),
        })
    }
}

/// The version of packages. A commit that has not been tagged comes before the release of its number.
fn version(release: &str, commit: Option<(&str, &str)>) -> String {
    match commit {
        None => format!("{release}-1"),
        Some((day, hash)) => format!("{release}~git{}.{hash}-1", day.replace('-', "")),
    }
}

fn git(workspace: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(workspace)
        .args(["-c", "core.abbrev=12"])
        .args(arguments)
        .env("TZ", "UTC")
        .output()
        .context("git")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "packages are made of a commit: git {arguments:?}: {said}"
    );
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_comes_before_its_release() {
        let commit = version("0.1.0", Some(("2026-11-27", "a8675931")));
        assert_eq!(commit, "0.1.0~git20261127.a8675931-1");
        let release = version("0.1.0", None);
        let mut dpkg = Command::new("dpkg");
        dpkg.args(["--compare-versions", &commit, "lt", &release]);
        assert!(dpkg.status().unwrap().success(), "{commit} {release}");
    }
}
