//! Processes that have files open whose reading removes the 1 GiB leaves of others.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::procfs::{self, FileId, look};

/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(5);

/// A process that has `smaps`, `smaps_rollup` or `numa_maps` of another process open.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watcher {
    /// Its id.
    pub pid: u32,
    /// Its name (`comm`), which it chooses itself: print it by [`crate::escape::Escaped`].
    pub name: String,
    /// The process whose file it is.
    pub watched: u32,
    /// `smaps`, `smaps_rollup` or `numa_maps`.
    pub file: &'static str,
    /// Whether it has read from it, which removes the leaves; `None` if that is unknown.
    pub has_read: Option<bool>,
    /// Whether the file is certain to be of that process. It is not where it belongs to another instance of the proc file
    /// system, such as that of a container: a PID namespace may number processes differently.
    pub certain: bool,
}

/// What identifies a watcher: its id, that of the watched process, and the file.
type Key = (u32, u32, &'static str);

/// Finds the processes that watch some of these, by the files that they have open (`/proc/PID/fd`).
///
/// Reads none of the watched files. Looks again until `during` is over, because most programs have such a file open for
/// milliseconds only. What was closed between two looks is not seen, nor are processes that this one may not read.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub fn watchers(watched: &[u32], during: Duration) -> Result<Vec<Watcher>, Error> {
    let began = Instant::now();
    let mut found = BTreeMap::new();
    loop {
        look_once(watched, &mut found)?;
        if began.elapsed() >= during {
            return Ok(found.into_values().collect());
        }
        thread::sleep(PAUSE);
    }
}

fn look_once(watched: &[u32], found: &mut BTreeMap<Key, Watcher>) -> Result<(), Error> {
    let mut files: BTreeMap<FileId, u32> = BTreeMap::new();
    for &pid in watched {
        // One that has ended or does not answer is not watched now.
        let own = look(pid, |process| process.walks()).unwrap_or_default();
        files.extend(own.into_iter().map(|file| (file, pid)));
    }
    let devices: BTreeSet<_> = files.keys().map(|file| file.device).collect();
    let watched: BTreeSet<_> = watched.iter().copied().collect();
    let own = std::process::id();
    for pid in procfs::pids().map_err(Error::file("/proc"))? {
        if pid == own {
            continue;
        }
        let open = look(pid, |process| Ok((process.open_walks()?, process.name())));
        let Ok((open, name)) = open else { continue };
        for walk in open {
            let watched = match files.get(&walk.file) {
                Some(watched) => Some((*watched, true)),
                // On this proc file system it is of another process.
                None if devices.contains(&walk.file.device) => None,
                None => Some((walk.by_path, false)).filter(|(pid, _)| watched.contains(pid)),
            };
            let Some((watched, certain)) = watched else {
                continue;
            };
            let key = (pid, watched, walk.name);
            let one = found.entry(key).or_insert_with(|| Watcher {
                pid,
                name: name.clone(),
                watched,
                file: walk.name,
                has_read: walk.has_read,
                certain,
            });
            if walk.has_read == Some(true) {
                one.has_read = Some(true);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_has_smaps_open_is_found() {
        let own = std::process::id();
        let smaps = File::open(format!("/proc/{own}/smaps")).unwrap();
        let mut child = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::from(smaps))
            .spawn()
            .unwrap();
        let pid = child.id();
        let all = watchers(&[own], Duration::ZERO);
        let none = watchers(&[pid], Duration::ZERO);
        child.kill().unwrap();
        child.wait().unwrap();
        let all = all.unwrap();
        let found = all.iter().find(|one| one.pid == pid).unwrap();
        assert_eq!((found.watched, found.file), (own, "smaps"));
        assert_eq!((found.has_read, found.certain), (Some(false), true));
        assert!(none.unwrap().iter().all(|one| one.pid != pid));
    }
}
