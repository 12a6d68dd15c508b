//! Debian 13's own Rust, fetched and run with its own loader and libraries, like the programs of `debian`.
//! It is the oldest Rust that builds this workspace.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::Apt;
use crate::arch::Arch;
use crate::cache::{self, Cache};
use crate::{debian, note};

const SUITE: &str = "trixie";

const PACKAGES: [&str; 2] = ["rustc", "cargo"];

/// What they need for linking. This host has it, because it has built this workspace.
const PRESENT: [&str; 3] = ["gcc", "binutils", "libc-dev"];

/// Version of the recipe: raise it when the same packages give another result.
const RECIPE: u32 = 2;

/// The folder of the cache, with a folder for each version.
pub(crate) const FOLDER: &str = "toolchains";

/// A Rust toolchain in the cache.
#[derive(Clone, Debug)]
pub struct Toolchain {
    dir: PathBuf,
}

impl Toolchain {
    /// Gets it from the cache, or else from the package sources. A newer version does not cause a new fetch.
    ///
    /// # Errors
    /// If it is not in the cache and cannot be fetched.
    pub fn get(cache: &Cache) -> Result<Self> {
        if let Some(found) = cached(cache)? {
            return Ok(found);
        }
        // One process at a time; a second one finds the result.
        let _lock = cache.lock("apt")?;
        match cached(cache)? {
            Some(found) => Ok(found),
            None => {
                fetch(cache).with_context(|| format!("cannot fetch the Rust of Debian {SUITE}"))
            }
        }
    }

    /// Its Cargo, with its compiler and rustdoc, and without flags: neither those of the Cargo that runs this nor those
    /// of this workspace.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(self.dir.join("cargo"));
        for name in [
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            cargo.env_remove(name);
        }
        cargo
            .env("RUSTC", self.dir.join("rustc"))
            .env("RUSTDOC", self.dir.join("rustdoc"))
            .env("RUSTFLAGS", "");
        cargo
    }

    /// Its compiler.
    pub fn rustc(&self) -> Command {
        Command::new(self.dir.join("rustc"))
    }

    /// Its unpacked packages.
    pub(crate) fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// The version of its packages, which its folder is named after.
    pub(crate) fn version(&self) -> Result<&str> {
        let name = self.dir.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.strip_prefix("rust-")?.strip_suffix(&key()))
            .and_then(|name| name.strip_suffix('-'))
            .context("a toolchain's folder has its version in its name")
    }
}

fn key() -> String {
    let recipe = format!("{RECIPE}{SUITE}{PACKAGES:?}{PRESENT:?}");
    format!("{:016x}", cache::hash(recipe.as_bytes()))
}

fn cached(cache: &Cache) -> Result<Option<Toolchain>> {
    for entry in fs::read_dir(cache.dir(FOLDER)?)? {
        let dir = entry?.path();
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(&key()) {
            return Ok(Some(Toolchain { dir }));
        }
    }
    Ok(None)
}

/// Fetches it; the caller must hold the lock.
fn fetch(cache: &Cache) -> Result<Toolchain> {
    cache.sweep(FOLDER)?;
    let apt = Apt::set_up(cache, Arch::X86_64)?;
    apt.update()?;
    let packages = apt.closure(&PACKAGES, SUITE, &PRESENT)?;
    let rustc = packages.iter().find(|one| one.name == PACKAGES[0]);
    let version = &rustc.context("no such package")?.version;
    note(&format!(
        "fetching Rust {version} and what it depends on ({} packages)",
        packages.len()
    ));
    let folder = format!("{FOLDER}/rust-{version}-{}", key());
    cache.publish(&folder, |work| {
        let tree = apt.tree(&packages, work)?;
        // Documentation and translations.
        fs::remove_dir_all(tree.join("usr/share"))?;
        let loader = debian::loader(&tree)?;
        let loader = loader.strip_prefix(work)?;
        script(work, "rustc", loader, "--sysroot \"$here/tree/usr\"")?;
        script(work, "rustdoc", loader, "--sysroot \"$here/tree/usr\"")?;
        script(work, "cargo", loader, "")
    })?;
    Ok(Toolchain {
        dir: cache.path(folder),
    })
}

/// Writes a script that runs a program with its loader and libraries, so that a path alone names it.
fn script(work: &Path, name: &str, loader: &Path, options: &str) -> Result<()> {
    let folder = loader.parent().context("a loader lies in a folder")?;
    let text = format!(
        "#!/bin/sh
here=$(dirname \"$(readlink -f \"$0\")\")
exec \"$here/{}\" --library-path \"$here/{}\" --argv0 \"$0\" \"$here/tree/usr/bin/{name}\" {options} \"$@\"
",
        loader.display(),
        folder.display()
    );
    let path = work.join(name);
    fs::write(&path, text)?;
    Ok(fs::set_permissions(
        &path,
        PermissionsExt::from_mode(0o755),
    )?)
}
