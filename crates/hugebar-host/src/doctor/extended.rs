//! Extended configuration space: finds capabilities. Reading it needs privilege.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where extended capabilities begin, and how many fit at most.
pub(super) const FIRST: usize = 0x100;
const MOST: usize = (4096 - FIRST) / 4;

/// The file `config` of a function. Reading it wakes a device that is off.
pub(super) struct Config(File);

impl Config {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// Reads the 4 bytes at an offset. Read only what is needed: some devices fail if all of it is read.
    pub(super) fn word(&self, offset: usize) -> Option<u32> {
        let mut word = [0; 4];
        let read = self.0.read_exact_at(&mut word, offset as u64);
        read.is_ok().then(|| u32::from_le_bytes(word))
    }

    /// Whether the function has extended capabilities, readable or not: without privilege the file ends after
    /// 64 bytes; without extended capabilities, after 256.
    pub(super) fn is_extended(&self) -> bool {
        self.0.metadata().is_ok_and(|config| config.len() > 256)
    }
}

/// The offset of a capability, if there is one; `None` if configuration space ends before extended capabilities, as it
/// does for readers without privilege. `word` reads 4 bytes at an offset.
pub(super) fn find(word: impl Fn(usize) -> Option<u32>, capability: u32) -> Option<Option<usize>> {
    word(FIRST)?;
    let mut next = FIRST;
    // A longer chain is a cycle.
    for _ in 0..MOST {
        let Some(header) = word(next).filter(|header| !matches!(*header, 0 | u32::MAX)) else {
            break;
        };
        if header & 0xffff == capability {
            return Some(Some(next));
        }
        next = (header >> 20) as usize & !3;
        if next < FIRST {
            break;
        }
    }
    Some(None)
}
