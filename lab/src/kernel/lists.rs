//! The package lists: read from the package sources once a day, and kept as lists of kernels and sources.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

use super::packages::{self, Candidate};
use super::source::{self, Source};
use crate::apt::{self, Apt};
use crate::arch::Arch;
use crate::cache::Cache;
use crate::note;

/// The list of kernels, in the folder of the package lists; as old as these.
const KERNELS: &str = "kernels.json";

/// The list of kernel sources, beside it.
const SOURCES: &str = "sources.json";

/// Lists older than this are updated.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// The available kernels and sources.
pub(super) struct Lists {
    pub(super) kernels: Vec<Candidate>,
    pub(super) sources: Vec<Source>,
}

/// The lists of an architecture, updated if they are old.
pub(super) fn get(cache: &Cache, arch: Arch) -> Result<Lists> {
    if let Some(lists) = young(cache, arch) {
        return Ok(lists);
    }
    // One process at a time; a second one finds the result.
    let _lock = cache.lock("apt")?;
    young(cache, arch).map_or_else(|| refresh(cache, arch), Ok)
}

/// Updates the lists; the caller must hold the lock.
pub(super) fn refresh(cache: &Cache, arch: Arch) -> Result<Lists> {
    note("reading the package lists of the kernels (once a day)");
    let apt = set_up_apt(cache, arch)?;
    match apt.update() {
        Ok(()) => {
            let lists = Lists::of(&shown(&apt)?);
            cache.replace(
                &path(arch, KERNELS),
                &serde_json::to_vec_pretty(&lists.kernels)?,
            )?;
            cache.replace(
                &path(arch, SOURCES),
                &serde_json::to_vec_pretty(&lists.sources)?,
            )?;
            Ok(lists)
        }
        // Use the older lists this once.
        Err(error) => {
            let shown = shown(&apt).map_err(|_| error.context("there are no package lists yet"))?;
            note("cannot update the package lists: using older ones");
            Ok(Lists::of(&shown))
        }
    }
}

/// The lists' kernels and sources.
fn shown(apt: &Apt) -> Result<String> {
    let mut names = apt.names("linux-")?;
    names.retain(|name| packages::is_of_interest(name) || source::is_of_interest(name));
    ensure!(
        !names.is_empty(),
        "the package lists have no kernel in them"
    );
    apt.show(&names)
}

impl Lists {
    fn of(shown: &str) -> Self {
        Lists {
            kernels: packages::candidates(shown),
            sources: source::sources(shown),
        }
    }
}

fn path(arch: Arch, list: &str) -> String {
    format!("{}/{list}", apt::folder(arch))
}

fn young(cache: &Cache, arch: Arch) -> Option<Lists> {
    Some(Lists {
        kernels: read(&cache.path(path(arch, KERNELS)))?,
        sources: read(&cache.path(path(arch, SOURCES)))?,
    })
}

/// A list, if it is young enough.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let age = path.metadata().ok()?.modified().ok()?.elapsed();
    // A time in the future means that the clock was set back.
    if age.unwrap_or_default() > FRESH {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The private apt, the source of kernels by version.
pub(super) fn set_up_apt(cache: &Cache, arch: Arch) -> Result<Apt> {
    Apt::set_up(cache, arch).context(
        "kernels by version are packages of Debian: use --kernel host, or the path of an image with --modules",
    )
}
