//! The cache folder, outside the checkout: kernels, programs, package lists and the work folders of running machines.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

/// Prefix of the names of unfinished folders.
const UNFINISHED: &str = ".new-";

/// The cache folder.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens `$HUGEBAR_CACHE`, else `hugebar` in `$XDG_CACHE_HOME`, else in `~/.cache`.
    ///
    /// # Errors
    /// If there is no such place, or it cannot be created.
    pub fn open() -> Result<Self> {
        let root = place(|name| env::var_os(name).map(PathBuf::from))
            .context("no place for the cache: set HUGEBAR_CACHE to a folder")?;
        Self::at(&root)
    }

    /// Opens the cache in a folder of the caller's choice.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn at(root: &Path) -> Result<Self> {
        fs::create_dir_all(root)
            .and_then(|()| root.canonicalize())
            .map(|root| Cache { root })
            .with_context(|| {
                format!(
                    "cannot create the cache {}: set HUGEBAR_CACHE to a writable folder",
                    root.display()
                )
            })
    }

    /// A path within the cache.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// A folder within the cache, created if needed.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn dir(&self, relative: impl AsRef<Path>) -> Result<PathBuf> {
        let dir = self.path(relative);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(dir)
    }

    /// Waits for the lock of that name and takes it (`flock`); dropping the file, or the end of the process, releases it.
    ///
    /// # Errors
    /// If the lock file cannot be created.
    pub fn lock(&self, name: &str) -> Result<File> {
        let file = self.lock_file(name)?;
        flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {name}.lock in the cache"))?;
        Ok(file)
    }

    /// Takes the lock of that name if it is free.
    ///
    /// # Errors
    /// If the lock file cannot be created.
    pub fn try_lock(&self, name: &str) -> Result<Option<File>> {
        let file = self.lock_file(name)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot lock {name}.lock")),
        }
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.path(format!("{name}.lock"));
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    }

    /// Creates a folder of the cache atomically: `fill` works in a temporary one beside it.
    ///
    /// # Errors
    /// If `fill` fails, or the file system does.
    pub fn publish(&self, relative: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let target = self.path(relative);
        let parent = target.parent().unwrap_or(&self.root);
        let work = temporary(parent)?;
        fill(work.path())?;
        match fs::rename(work.path(), &target) {
            Ok(()) => Ok(()),
            // Another process was faster: its result is as good.
            Err(_) if target.is_dir() => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot create {}", target.display())),
        }
    }

    /// A folder within a folder of the cache, for as long as the value lives; [`Cache::sweep`] removes it after a process that was killed.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn temporary(&self, relative: &str) -> Result<TempDir> {
        temporary(&self.path(relative))
    }

    /// The unfinished folders in a folder, of running or killed processes.
    ///
    /// # Errors
    /// If the file system fails.
    pub fn unfinished(&self, relative: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.dir(relative)?)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// Removes the unfinished folders that killed processes left in a folder. The caller must hold its lock.
    ///
    /// # Errors
    /// If the file system fails.
    pub fn sweep(&self, relative: &str) -> Result<()> {
        for path in self.unfinished(relative)? {
            fs::remove_dir_all(path)?;
        }
        Ok(())
    }

    /// Replaces a file of the cache atomically.
    ///
    /// # Errors
    /// If the file system fails.
    pub fn replace(&self, relative: &str, content: &[u8]) -> Result<()> {
        let target = self.path(relative);
        let parent = target.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent)?;
        let file = tempfile::NamedTempFile::new_in(parent)?;
        fs::write(file.path(), content)?;
        file.persist(&target)
            .with_context(|| format!("cannot write {}", target.display()))?;
        Ok(())
    }
}

/// FNV-1a, for names of folders: the hashes of the standard library may change with its version.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn temporary(parent: &Path) -> Result<TempDir> {
    fs::create_dir_all(parent)
        .and_then(|()| {
            tempfile::Builder::new()
                .prefix(UNFINISHED)
                .tempdir_in(parent)
        })
        .with_context(|| format!("cannot create a folder in {}", parent.display()))
}

fn place(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|path| !path.as_os_str().is_empty());
    set("HUGEBAR_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("hugebar")))
        .or_else(|| Some(set("HOME")?.join(".cache/hugebar")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_decides() {
        let place = |set: &[(&str, &str)]| {
            place(|name| Some(set.iter().find(|(known, _)| *known == name)?.1.into()))
        };
        let all = [
            ("HUGEBAR_CACHE", "/a"),
            ("XDG_CACHE_HOME", "/b"),
            ("HOME", "/c"),
        ];
        assert_eq!(place(&all), Some("/a".into()));
        assert_eq!(place(&all[1..]), Some("/b/hugebar".into()));
        assert_eq!(place(&all[2..]), Some("/c/.cache/hugebar".into()));
        assert_eq!(place(&[("HUGEBAR_CACHE", ""), all[2]]), place(&all[2..]));
        assert_eq!(place(&[]), None);
    }

    #[test]
    fn the_hash_outlives_the_version_of_rust() {
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_folder_is_published_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        cache
            .publish("kernels/a", |work| {
                fs::write(work.join("half"), "")?;
                anyhow::bail!("no network")
            })
            .unwrap_err();
        assert_eq!(fs::read_dir(cache.path("kernels")).unwrap().count(), 0);

        fs::create_dir(cache.path("kernels/.new-killed")).unwrap();
        cache.sweep("kernels").unwrap();

        let put = |text: &'static str| {
            cache.publish("kernels/a", move |work| {
                Ok(fs::write(work.join("f"), text)?)
            })
        };
        put("first").unwrap();
        put("second").unwrap();
        let kept = fs::read_to_string(cache.path("kernels/a/f")).unwrap();
        assert_eq!(kept, "first");
        assert_eq!(fs::read_dir(cache.path("kernels")).unwrap().count(), 1);
    }

    #[test]
    fn a_lock_excludes_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let held = cache.lock("x").unwrap();
        assert!(cache.try_lock("x").unwrap().is_none());
        assert!(cache.try_lock("y").unwrap().is_some());
        drop(held);
        assert!(cache.try_lock("x").unwrap().is_some());
    }
}
