//! Fresh roots of Debian releases, like a new user's machine, to run commands in. Needs root.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::apt::{self, Mirrors};
use crate::cache::Cache;
use crate::{install, note};

/// A Debian release for a root.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// Its name in the archive.
    pub suite: &'static str,
    /// The packages that README tells its users to install for Rust.
    pub rust: &'static [&'static str],
}

/// Debian 12.
pub const BOOKWORM: Release = Release {
    suite: "bookworm",
    rust: &["rustc-web", "cargo-web"],
};

/// Debian 13.
pub const TRIXIE: Release = Release {
    suite: "trixie",
    rust: &["rustc", "cargo"],
};

/// Variables with the paths of certificates.
const CERTIFICATES: [&str; 2] = ["SSL_CERT_FILE", "CURL_CA_BUNDLE"];

/// This machine's files for network access.
const NETWORK: [&str; 3] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/ssl/certs/ca-certificates.crt",
];

/// A root, removed when it is dropped.
#[derive(Debug)]
pub struct Root {
    dir: tempfile::TempDir,
    _lock: fs::File,
}

impl Root {
    /// Makes a root of this release, with these packages, in the cache. Only one exists at a time.
    ///
    /// # Errors
    /// If this is not Debian or not root, or packages cannot be fetched.
    pub fn fresh(release: Release, packages: &[&str], cache: &Cache, yes: bool) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "making a root of Debian needs root"
        );
        install::ensure_debootstrap(yes)?;
        let mirrors = Mirrors::of_this_machine()?;
        let lock = cache.lock("roots")?;
        let roots = cache.dir("roots")?;
        for left in fs::read_dir(&roots)? {
            // A killed process left it.
            fs::remove_dir_all(left?.path())?;
        }
        let dir = tempfile::Builder::new()
            .prefix(release.suite)
            .tempdir_in(roots)?;
        note(&format!("making a root of Debian {}", release.suite));
        let debootstrap = install::find("debootstrap").context("debootstrap")?;
        quietly(
            Command::new(debootstrap)
                .args(["--variant=minbase", "--include=ca-certificates"])
                .arg(release.suite)
                .arg(dir.path())
                .arg(mirrors.main()),
        )?;
        let root = Self { dir, _lock: lock };
        root.join_network()?;
        fs::write(
            root.path("/etc/apt/sources.list"),
            mirrors.sources_of(release.suite),
        )?;
        let packages = packages.join(" ");
        let install = format!(
            "apt-get --quiet update && apt-get --quiet install --yes --no-install-recommends {packages}"
        );
        quietly(root.command(&install).stdout(Stdio::null()))?;
        Ok(root)
    }

    /// This process's path of a path in the root.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join(inside.trim_start_matches('/'))
    }

    /// A command for the root's shell, in its own namespaces: its children end with it, and nothing stays mounted.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg("--root")
            .arg(self.dir.path())
            .args(["sh", "-ec", line])
            .env_clear()
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8")
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .envs(variables())
            .stdin(Stdio::null());
        command
    }

    /// Copies this machine's network settings: names, proxies, certificates.
    fn join_network(&self) -> Result<()> {
        let certificates = CERTIFICATES.iter().filter_map(|name| env::var(name).ok());
        for file in certificates.chain(NETWORK.map(str::to_owned)) {
            let inside = self.path(&file);
            fs::create_dir_all(inside.parent().context("a file lies in a folder")?)?;
            if Path::new(&file).exists() {
                fs::copy(&file, &inside).with_context(|| file.clone())?;
            }
        }
        fs::write(
            self.path("/etc/apt/apt.conf.d/99network"),
            apt::acquire_options()?,
        )?;
        let config = cargo_home().join("config.toml");
        if config.exists() {
            fs::create_dir_all(self.path("/root/.cargo"))?;
            fs::copy(config, self.path("/root/.cargo/config.toml"))?;
        }
        Ok(())
    }
}

/// This process's variables for network access.
fn variables() -> impl Iterator<Item = (String, String)> {
    env::vars().filter(|(name, _)| {
        CERTIFICATES.contains(&name.as_str()) || name.to_lowercase().ends_with("_proxy")
    })
}

fn cargo_home() -> PathBuf {
    let of_home = || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cargo");
    env::var_os("CARGO_HOME").map_or_else(of_home, PathBuf::from)
}

/// Runs a command and shows its output only if it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let (stdout, status) = (String::from_utf8_lossy(&output.stdout), output.status);
    ensure!(status.success(), "{command:?}: {status}: {stdout}{said}");
    Ok(())
}
