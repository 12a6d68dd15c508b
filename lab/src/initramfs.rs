//! The guest's file system: a cpio archive in newc format, uncompressed so that an emulated CPU need not decompress it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

/// Builds a file system.
pub(crate) struct Initramfs {
    /// Entries by path without a leading slash: a folder comes before its contents, as the kernel requires.
    entries: BTreeMap<String, Entry>,
}

enum Entry {
    Dir,
    File { mode: u32, source: Source },
    Symlink(String),
    CharDevice { major: u32, minor: u32 },
}

/// The source of a file's content.
pub(crate) enum Source {
    /// A file of this host.
    File(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
}

impl Initramfs {
    /// An empty one.
    fn empty() -> Self {
        Initramfs {
            entries: BTreeMap::new(),
        }
    }

    /// One with only the console that the kernel opens for PID 1.
    pub(crate) fn new() -> Self {
        let mut initramfs = Initramfs::empty();
        initramfs.put("dev/console", Entry::CharDevice { major: 5, minor: 1 });
        initramfs
    }

    /// One with only ACPI tables, which the kernel adds to the machine's own. It looks for them in the first archive, long before
    /// it unpacks one.
    pub(crate) fn of_acpi_tables(tables: &[Vec<u8>]) -> Self {
        let mut initramfs = Initramfs::empty();
        for (number, table) in tables.iter().enumerate() {
            let path = format!("kernel/firmware/acpi/{number}.aml");
            initramfs.file(&path, 0o644, Source::Bytes(table.clone()));
        }
        initramfs
    }

    /// Adds a folder.
    pub(crate) fn dir(&mut self, path: &str) {
        self.put(path, Entry::Dir);
    }

    /// Adds a file; the last one added for a path is kept.
    pub(crate) fn file(&mut self, path: &str, mode: u32, source: Source) {
        self.put(path, Entry::File { mode, source });
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        self.put(path, Entry::Symlink(target.to_owned()));
    }

    fn put(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/') {
            self.entries
                .entry(path[..end].to_owned())
                .or_insert(Entry::Dir);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// Writes the archive.
    pub(crate) fn write(&self, mut archive: impl Write) -> Result<()> {
        for (inode, (path, entry)) in (1..).zip(&self.entries) {
            let new = Builder::new(path).ino(inode);
            let (entry, content) = match entry {
                Entry::Dir => (
                    new.mode(0o755).set_mode_file_type(ModeFileType::Directory),
                    Vec::new(),
                ),
                Entry::File { mode, source } => (
                    new.mode(*mode).set_mode_file_type(ModeFileType::Regular),
                    match source {
                        Source::Bytes(bytes) => bytes.clone(),
                        Source::File(path) => fs::read(path)
                            .with_context(|| format!("cannot read {}", path.display()))?,
                    },
                ),
                Entry::Symlink(target) => (
                    new.mode(0o777).set_mode_file_type(ModeFileType::Symlink),
                    target.clone().into_bytes(),
                ),
                Entry::CharDevice { major, minor } => (
                    new.mode(0o600)
                        .set_mode_file_type(ModeFileType::Char)
                        .rdev_major(*major)
                        .rdev_minor(*minor),
                    Vec::new(),
                ),
            };
            let size = u32::try_from(content.len())
                .with_context(|| format!("{path} is too large for an initramfs"))?;
            let mut writer = entry.write(archive, size);
            io::copy(&mut content.as_slice(), &mut writer)?;
            archive = writer.finish()?;
        }
        trailer(archive)?.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::newc::Reader;
    use std::io::Read;

    /// Path, mode and content of each entry.
    fn read(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut rest = archive;
        let mut entries = Vec::new();
        loop {
            let mut reader = Reader::new(rest).unwrap();
            let entry = reader.entry().clone();
            if entry.is_trailer() {
                return entries;
            }
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            entries.push((entry.name().to_owned(), entry.mode(), content));
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn entries_come_after_their_folders_with_type_mode_and_content() {
        let mut initramfs = Initramfs::new();
        initramfs.file("/a/b/c.txt", 0o640, Source::Bytes(b"text".to_vec()));
        initramfs.file("/a-b", 0o755, Source::File("/proc/self/comm".into()));
        initramfs.symlink("/a/link", "b/c.txt");
        initramfs.dir("/a");
        let mut archive = Vec::new();
        initramfs.write(&mut archive).unwrap();

        let entries = read(&archive);
        let names: Vec<_> = entries.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "a",
                "a-b",
                "a/b",
                "a/b/c.txt",
                "a/link",
                "dev",
                "dev/console"
            ]
        );
        let find = |name| entries.iter().find(|entry| entry.0 == name).unwrap();
        assert_eq!(find("a").1, 0o040_755);
        assert_eq!(
            (find("a/b/c.txt").1, find("a/b/c.txt").2.as_slice()),
            (0o100_640, &b"text"[..])
        );
        assert_eq!(
            (find("a/link").1, find("a/link").2.as_slice()),
            (0o120_777, &b"b/c.txt"[..])
        );
        assert_eq!(find("dev/console").1, 0o020_600);
        assert!(!find("a-b").2.is_empty());
    }

    #[test]
    fn a_file_that_is_gone_is_an_error() {
        let mut initramfs = Initramfs::new();
        initramfs.file("x", 0o644, Source::File("/no/such/file".into()));
        let error = initramfs.write(Vec::new()).unwrap_err();
        assert!(error.to_string().contains("/no/such/file"), "{error}");
    }
}
