//! Kernels in the cache: finds cached and available kernels, and fetches them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::packages::{Candidate, choose};
use super::spec::{Kernel, Spec};
use super::{lists, modules};
use crate::arch::Arch;
use crate::cache::Cache;
use crate::{apt, note};

/// The newest matching kernel, from the cache or the package sources.
pub(super) fn newest(cache: &Cache, spec: &Spec, arch: Arch) -> Result<Kernel> {
    let known = match lists::get(cache, arch) {
        Ok(lists) => lists.kernels,
        Err(error) => return from_cache(cache, spec, error),
    };
    let chosen = choose(&known, spec).with_context(|| nothing(&known, spec))?;
    if let Some(kernel) = cached(cache, &chosen.release) {
        return Ok(kernel);
    }
    let _lock = cache.lock("apt")?;
    if let Some(kernel) = cached(cache, &chosen.release) {
        return Ok(kernel);
    }
    fetch(cache, chosen, arch)
        .or_else(|error| {
            // A package can be gone from the mirror before the lists are a day old.
            let known = lists::refresh(cache, arch)?.kernels;
            match choose(&known, spec) {
                Some(other) if other != chosen => fetch(cache, other, arch),
                _ => Err(error),
            }
        })
        .or_else(|error| from_cache(cache, spec, error))
}

/// Falls back to a kernel that was fetched before.
fn from_cache(cache: &Cache, spec: &Spec, error: anyhow::Error) -> Result<Kernel> {
    let here: Vec<Candidate> = fs::read_dir(cache.path("kernels"))
        .into_iter()
        .flatten()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("candidate.json")).ok())
        .filter_map(|text| serde_json::from_slice(&text).ok())
        .collect();
    match choose(&here, spec).and_then(|chosen| cached(cache, &chosen.release)) {
        Some(kernel) => {
            note(&format!(
                "using Linux {} from the cache: {error:#}",
                kernel.release
            ));
            Ok(kernel)
        }
        None => Err(error),
    }
}

fn nothing(known: &[Candidate], spec: &Spec) -> String {
    let mut known: Vec<_> = known.iter().collect();
    known.sort_by_key(|candidate| candidate.age());
    let mut versions: Vec<_> = known.iter().map(|one| one.version.as_str()).collect();
    versions.dedup();
    format!(
        "no kernel {} is available; there are {}",
        spec.describe(),
        versions.join(", ")
    )
}

impl Spec {
    fn describe(&self) -> String {
        match self {
            Spec::Version(numbers, flavour) => {
                let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
                numbers.join(".") + flavour
            }
            other => format!("{other:?}"),
        }
    }
}

fn cached(cache: &Cache, release: &str) -> Option<Kernel> {
    let dir = cache.path(format!("kernels/{release}"));
    dir.join("candidate.json").is_file().then(|| Kernel {
        release: release.to_owned(),
        vmlinuz: dir.join("vmlinuz"),
        vmlinux: None,
        modules: Some(dir.join("lib/modules").join(release)),
    })
}

/// Fetches a kernel; the caller must hold the lock.
fn fetch(cache: &Cache, candidate: &Candidate, arch: Arch) -> Result<Kernel> {
    let Candidate {
        release,
        packages,
        size,
        ..
    } = candidate;
    note(&format!(
        "fetching Linux {release} ({} MB)",
        size.div_ceil(1_000_000)
    ));
    let apt = lists::set_up_apt(cache, arch)?;
    cache
        .publish(&format!("kernels/{release}"), |work| {
            let (archives, tree) = (work.join("archives"), work.join("tree"));
            fs::create_dir(&archives)?;
            apt.download(packages, &archives)?;
            for entry in fs::read_dir(&archives)? {
                apt::unpack(&entry?.path(), &tree)?;
            }
            let modules: PathBuf = first(
                &tree,
                &[
                    format!("lib/modules/{release}"),
                    format!("usr/lib/modules/{release}"),
                ],
            )?;
            let vmlinuz = first(
                &tree,
                &[
                    format!("boot/vmlinuz-{release}"),
                    format!("usr/lib/modules/{release}/vmlinuz"),
                ],
            )?;
            let staged = work.join("lib/modules").join(release);
            fs::create_dir_all(&staged)?;
            modules::stage(&modules, &staged)?;
            fs::copy(&vmlinuz, work.join("vmlinuz"))?;
            fs::remove_dir_all(&archives)?;
            fs::remove_dir_all(&tree)?;
            fs::write(work.join("candidate.json"), serde_json::to_vec(candidate)?)?;
            Ok(())
        })
        .with_context(|| format!("cannot fetch Linux {release}"))?;
    cached(cache, release).context("the kernel is not in the cache after it was fetched")
}

fn first(tree: &Path, paths: &[String]) -> Result<PathBuf> {
    match paths
        .iter()
        .map(|path| tree.join(path))
        .find(|path| path.exists())
    {
        Some(path) => Ok(path),
        None => bail!("its packages have none of {}", paths.join(", ")),
    }
}
