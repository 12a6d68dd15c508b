//! Extended configuration space: finds capabilities. Reading it needs privilege.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use hugebar::pci::ExtendedCapabilities;

/// Where extended capabilities begin.
pub(super) const FIRST: usize = 0x100;

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
pub(super) fn find(word: impl Fn(usize) -> Option<u32>, capability: u16) -> Option<Option<usize>> {
    word(FIRST)?;
    let all = ExtendedCapabilities::new(|offset, buffer: &mut [u8]| {
        let word = word(offset.into()).ok_or(())?;
        buffer.copy_from_slice(&word.to_le_bytes());
        Ok::<_, ()>(())
    });
    let found = all.map_while(Result::ok).find(|own| own.id == capability);
    Some(found.map(|own| own.offset.into()))
}
