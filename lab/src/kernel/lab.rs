//! The lab kernel in the cache: finds it, and builds it from the newest available source.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use indicatif::HumanDuration;
use serde::{Deserialize, Serialize};

use super::build::{self, Build};
use super::config::Options;
use super::lists;
use super::source::{self, Source};
use super::spec::Kernel;
use crate::arch::Arch;
use crate::cache::{self, Cache};
use crate::{apt, install, note};

/// The options of the kernel for an architecture.
fn fragment(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => include_str!("../../kernel.config"),
        Arch::Arm64 => include_str!("../../kernel-arm64.config"),
    }
}

/// Version of the recipe: raise it when the same source and options are built in another way.
const RECIPE: u32 = 1;

/// The folder of the cache, with one folder in it for each build, and the lock of that name.
const FOLDER: &str = "lab-kernels";

/// The file that describes a build; exists only if the build is complete.
const BUILT: &str = "built.json";

/// A kernel that was built.
#[derive(Serialize, Deserialize)]
struct Built {
    source: Source,
    release: String,
}

/// The existing lab kernel, or else a new one. A newer source does not cause a build, which would take minutes
/// at an unexpected time. [`build_newest`] does that.
pub(super) fn get(cache: &Cache, arch: Arch) -> Result<Kernel> {
    let options = Options::parse(fragment(arch))?;
    match newest_built(cache, &options) {
        Some(kernel) => Ok(kernel),
        None => build_newest(cache, arch),
    }
}

/// Whether it is there.
pub(super) fn is_built(cache: &Cache, arch: Arch) -> Result<bool> {
    let options = Options::parse(fragment(arch))?;
    Ok(newest_built(cache, &options).is_some())
}

/// The lab kernel of an architecture and of the newest available source, built if needed.
///
/// # Errors
/// If there is no source, something that building needs is missing, or it fails.
pub fn build_newest(cache: &Cache, arch: Arch) -> Result<Kernel> {
    let options = Options::parse(fragment(arch))?;
    // The source is the same for all, and its tools run on the host.
    let lists = lists::get(cache, Arch::X86_64);
    let source = match lists.and_then(|lists| newest_source(&lists.sources)) {
        Ok(source) => source,
        Err(error) => {
            let kernel = newest_built(cache, &options);
            if let Some(kernel) = &kernel {
                let release = &kernel.release;
                note(&format!(
                    "using the lab kernel {release} that is there: {error:#}"
                ));
            }
            return kernel.ok_or(error);
        }
    };
    let key = key(&source, &options);
    if let Some(kernel) = built(cache, &key) {
        return Ok(kernel);
    }
    install::check_build(arch)?;
    let _lock = lock(cache)?;
    match built(cache, &key) {
        Some(kernel) => Ok(kernel),
        None => build(cache, source, arch, &options),
    }
}

/// Waits until no other process builds.
fn lock(cache: &Cache) -> Result<File> {
    if let Some(lock) = cache.try_lock(FOLDER)? {
        return Ok(lock);
    }
    note("waiting for another process that builds the lab kernel");
    cache.lock(FOLDER)
}

fn newest_source(sources: &[Source]) -> Result<Source> {
    source::newest(sources)
        .cloned()
        .context("the package lists have no source of a kernel")
}

/// The folder of a build: the same only for inputs that give the same kernel. The compiler is no part of it, because another one makes
/// a kernel that behaves the same, and options of one architecture are never those of another.
fn key(source: &Source, options: &Options) -> String {
    let recipe = format!("{RECIPE}\n{}", options.canonical());
    format!("{}-{:016x}", source.version, cache::hash(recipe.as_bytes()))
}

fn read(cache: &Cache, folder: &str) -> Option<Built> {
    let path = cache.path(FOLDER).join(folder).join(BUILT);
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn built(cache: &Cache, key: &str) -> Option<Kernel> {
    read(cache, key).map(|built| Kernel {
        release: built.release,
        vmlinuz: cache.path(FOLDER).join(key).join("vmlinuz"),
        vmlinux: None,
        modules: None,
    })
}

/// The newest build with these options.
fn newest_built(cache: &Cache, options: &Options) -> Option<Kernel> {
    let found = fs::read_dir(cache.path(FOLDER))
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let folder = entry.ok()?.file_name().into_string().ok()?;
            let source = read(cache, &folder)?.source;
            (folder == key(&source, options)).then_some(source)
        })
        .max_by_key(Source::age)?;
    built(cache, &key(&found, options))
}

/// Fetches and builds; the caller must hold the lock.
fn build(cache: &Cache, source: Source, arch: Arch, options: &Options) -> Result<Kernel> {
    if !cache.unfinished(FOLDER)?.is_empty() {
        note("removing the remains of an interrupted build");
        cache.sweep(FOLDER)?;
    }
    build::ensure_room(&cache.dir(FOLDER)?)?;
    let packages = cache.temporary(FOLDER)?;
    let source = fetch(cache, source, packages.path())?;
    note(&format!(
        "building the lab kernel for {arch}, Linux {}: about {} minutes on two CPUs, once",
        source.upstream(),
        match arch {
            Arch::X86_64 => 8,
            Arch::Arm64 => 5,
        }
    ));
    let started = Instant::now();
    let key = key(&source, options);
    let log = cache.path(FOLDER).join("build.log");
    cache
        .publish(&format!("{FOLDER}/{key}"), |work| {
            let tree = work.join("source");
            let build = Build::new(arch, tree.clone(), log.clone())?;
            let archive = format!("usr/src/{}.tar.xz", source.package);
            build.unpack(&packages.path().join(archive))?;
            build.configure(options)?;
            build.compile()?;
            let release = build.release()?;
            fs::copy(build.image(), work.join("vmlinuz"))?;
            fs::copy(build.configuration(), work.join("config"))?;
            fs::rename(&log, work.join("build.log"))?;
            fs::remove_dir_all(&tree)?;
            let built = Built {
                source: source.clone(),
                release,
            };
            fs::write(work.join(BUILT), serde_json::to_vec_pretty(&built)?)?;
            Ok(())
        })
        .with_context(|| format!("cannot build the lab kernel from {}", source.package))?;
    note(&format!(
        "the lab kernel is built ({})",
        HumanDuration(started.elapsed())
    ));
    built(cache, &key).context("the lab kernel is not in the cache after it was built")
}

/// Fetches a source package and unpacks it into a folder. If it is gone from the mirror before the lists are a day old,
/// fetches the newest one of updated lists.
fn fetch(cache: &Cache, source: Source, into: &Path) -> Result<Source> {
    let _lock = cache.lock("apt")?;
    let Err(error) = fetch_package(cache, &source, into) else {
        return Ok(source);
    };
    let newer = newest_source(&lists::refresh(cache, Arch::X86_64)?.sources)?;
    if newer == source {
        bail!(error);
    }
    fetch_package(cache, &newer, into)?;
    Ok(newer)
}

fn fetch_package(cache: &Cache, source: &Source, into: &Path) -> Result<()> {
    let Source {
        package,
        version,
        size,
    } = source;
    note(&format!(
        "fetching {package} ({} MB)",
        size.div_ceil(1_000_000)
    ));
    let archives = cache.temporary(FOLDER)?;
    lists::set_up_apt(cache, Arch::X86_64)?
        .download(&[format!("{package}={version}")], archives.path())
        .with_context(|| format!("cannot fetch {package}"))?;
    for entry in fs::read_dir(archives.path())? {
        apt::unpack(&entry?.path(), into)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(version: &str) -> Source {
        Source {
            package: "linux-source-7.3".into(),
            version: version.into(),
            size: 1,
        }
    }

    fn options(text: &str) -> Options {
        Options::parse(text).unwrap()
    }

    #[test]
    fn the_key_changes_with_what_changes_the_kernel_and_with_nothing_else() {
        let of = |version: &str, text: &str| key(&source(version), &options(text));
        let one = of("7.3.4-1", "CONFIG_A=y\nCONFIG_B=n\n");
        assert!(one.starts_with("7.3.4-1-"), "{one}");
        let same = of("7.3.4-1", "# why\n# CONFIG_B is not set\n\nCONFIG_A=y\n");
        assert_eq!(one, same);
        for (version, text) in [
            ("7.3.4-2", "CONFIG_A=y\nCONFIG_B=n\n"),
            ("7.3.4-1", "CONFIG_A=y\nCONFIG_B=y\n"),
            ("7.3.4-1", "CONFIG_A=y\n"),
        ] {
            assert_ne!(one, of(version, text));
        }
    }

    #[test]
    fn the_newest_whole_build_with_these_options_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let (asked, other) = (options("CONFIG_A=y\n"), options("CONFIG_B=y\n"));
        assert!(newest_built(&cache, &asked).is_none());
        for (version, options) in [
            ("7.3.4-1", &asked),
            ("7.3.10-1", &asked),
            ("7.4.1-1", &other),
        ] {
            let source = source(version);
            let folder = cache
                .dir(Path::new(FOLDER).join(key(&source, options)))
                .unwrap();
            let release = source.upstream().to_owned();
            let built = Built { source, release };
            fs::write(folder.join(BUILT), serde_json::to_vec(&built).unwrap()).unwrap();
        }
        let half = key(&source("7.5.1-1"), &asked);
        cache.dir(Path::new(FOLDER).join(half)).unwrap();
        let kernel = newest_built(&cache, &asked).unwrap();
        assert_eq!(kernel.release, "7.3.10");
        assert!(kernel.vmlinuz.ends_with("vmlinuz") && kernel.modules.is_none());
    }

    #[test]
    fn the_fragments_are_well_formed_and_have_no_modules() {
        for arch in [Arch::X86_64, Arch::Arm64] {
            let asked = Options::parse(fragment(arch)).unwrap().canonical();
            for line in ["CONFIG_MODULES=n\n", "CONFIG_VFIO_DEVICE_CDEV=y\n"] {
                assert!(asked.contains(line), "{arch}: {line}");
            }
        }
    }
}
