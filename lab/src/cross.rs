//! The compiler for guests of other architectures: Debian 13's own Rust, with the standard library of the architecture
//! added to it, and the linker of this host's cross compiler.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::{Apt, Package};
use crate::arch::Arch;
use crate::cache::Cache;
use crate::copy::HostFile;
use crate::note;
use crate::toolchain::{FOLDER, Toolchain};

/// The package of the standard library.
const LIBRARY: &str = "libstd-rust-dev";

/// Where it lies, in its package and in the toolchain's tree.
const PLACE: &str = "usr/lib/rustlib/aarch64-unknown-linux-gnu";

/// The target of arm64 guests.
const TARGET: &str = "aarch64-unknown-linux-gnu";

/// The linker, which also knows where the C library lies.
pub(crate) const LINKER: &str = "aarch64-linux-gnu-gcc";

/// The loader and the C library of the cross compiler, for programs that are not static.
const SHARED: [&str; 2] = ["ld-linux-aarch64.so.1", "libc.so.6"];
const SHARED_IN: &str = "/usr/aarch64-linux-gnu/lib";

/// What is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A static program, because guests have no libraries unless they are copied.
    Program,
    /// A shared library for programs that are not static.
    Library,
}

/// A toolchain that also has the standard library of arm64.
#[derive(Clone, Debug)]
pub struct Cross(Toolchain);

impl Cross {
    /// Gets it from the cache, or else what is missing from the package sources.
    ///
    /// # Errors
    /// If it is not in the cache and cannot be fetched.
    pub fn get(cache: &Cache) -> Result<Self> {
        let toolchain = Toolchain::get(cache)?;
        let place = toolchain.tree().join(PLACE);
        if !place.is_dir() {
            // One process at a time; a second one finds the result.
            let _lock = cache.lock("apt")?;
            if !place.is_dir() {
                fetch(cache, toolchain.version()?, &place)?;
            }
        }
        Ok(Cross(toolchain))
    }

    /// Cargo's command, which builds into this folder.
    pub(crate) fn cargo(&self, command: &str, target_dir: &Path, kind: Kind) -> Command {
        let mut cargo = self.0.cargo();
        let sign = match kind {
            Kind::Program => '+',
            Kind::Library => '-',
        };
        // The cfg is that of .cargo/config.toml, which these flags replace.
        let flags =
            format!("--cfg hugebar_seam -C target-feature={sign}crt-static -C linker={LINKER}");
        cargo
            .args([command, "--target", TARGET, "--target-dir"])
            .arg(target_dir)
            .env("RUSTFLAGS", flags)
            .env("CARGO_PROFILE_DEV_DEBUG", "0");
        cargo
    }
}

/// The loader and the C library that an arm64 guest needs for a program that is not static.
pub fn shared_c_library() -> [HostFile; 2] {
    SHARED.map(|name| HostFile {
        host: Path::new(SHARED_IN).join(name),
        guest: Some(format!("/lib/{name}")),
    })
}

/// Fetches the library of this version; the caller must hold the lock.
fn fetch(cache: &Cache, version: &str, place: &Path) -> Result<()> {
    note(&format!("fetching the arm64 library of Rust {version}"));
    let library = Package {
        name: LIBRARY.to_owned(),
        version: version.to_owned(),
    };
    let work = cache.temporary(FOLDER)?;
    let fetch = || -> Result<()> {
        let apt = Apt::set_up(cache, Arch::Arm64)?;
        apt.update()?;
        let tree = apt.tree(&[library], work.path())?;
        Ok(fs::rename(tree.join(PLACE), place)?)
    };
    // The compiler reads only the library of its own version, of which the archive has one.
    fetch().with_context(|| {
        format!(
            "cannot fetch {LIBRARY} {version} for arm64; if the archive has a newer version by now, remove {FOLDER} from \
             the cache, so that all of it is fetched again"
        )
    })
}
