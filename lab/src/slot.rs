//! Limits the number of machines that run at once, over all threads and processes of this user.

use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::note;

/// After this time, waiting for a free slot is reported.
const PATIENCE: Duration = Duration::from_secs(5);

/// A slot for one machine: a lock that others wait for, and a work folder that its next owner empties.
///
/// Reusing the folders instead of removing them leaves nothing behind if a process is killed.
pub(crate) struct Slot {
    dir: PathBuf,
    _lock: File,
}

impl Slot {
    /// Waits for a free slot.
    pub(crate) fn take(cache: &Cache) -> Result<Self> {
        let slots = cache.dir("slots")?;
        // Tests often wait for one another, so they do not report it.
        let watched = std::io::stderr().is_terminal();
        let mut patience = watched.then(|| Instant::now() + PATIENCE);
        loop {
            for number in 0..slot_count() {
                if let Some(lock) = cache.try_lock(&format!("slots/{number}"))? {
                    let dir = slots.join(number.to_string());
                    if dir.exists() {
                        fs::remove_dir_all(&dir).context("cannot empty the work folder")?;
                    }
                    fs::create_dir(&dir)?;
                    return Ok(Slot { dir, _lock: lock });
                }
            }
            if patience.take_if(|until| Instant::now() > *until).is_some() {
                note("waiting for another machine to end");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The work folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// A machine has two CPUs and uses both while booting.
fn slot_count() -> usize {
    thread::available_parallelism().map_or(2, |cpus| (cpus.get() / 2).max(2))
}

/// Records that a machine was started.
pub(crate) fn record_boot(cache: &Cache, what: &str) -> Result<()> {
    let mut log = File::options()
        .create(true)
        .append(true)
        .open(cache.path("boots.log"))?;
    Ok(log.write_all(format!("{what}\n").as_bytes())?)
}

/// How many machines have been started from this cache so far, including repeated boots.
///
/// # Errors
/// If the cache cannot be opened.
pub fn boots() -> Result<usize> {
    let log = fs::read_to_string(Cache::open()?.path("boots.log")).unwrap_or_default();
    Ok(log.lines().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_owners_share_a_slot_and_the_next_finds_it_empty() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let slots: Vec<_> = (0..slot_count())
            .map(|_| Slot::take(&cache).unwrap())
            .collect();
        for (number, slot) in slots.iter().enumerate() {
            assert!(
                slots[..number]
                    .iter()
                    .all(|other| other.dir() != slot.dir())
            );
            fs::write(slot.dir().join("left"), "").unwrap();
        }
        let waiting = thread::spawn(move || Slot::take(&cache).unwrap());
        thread::sleep(Duration::from_millis(200));
        assert!(!waiting.is_finished(), "one more than there are slots");
        drop(slots);
        let next = waiting.join().unwrap();
        assert_eq!(fs::read_dir(next.dir()).unwrap().count(), 0);
    }
}
