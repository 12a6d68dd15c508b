//! What a function had before it was bound: `/run/hugebar/ADDRESS`.
//!
//! A record appears whole (`fsync`, `rename`) before anything is changed, is never replaced, and goes away only once the
//! function is as before. It has no stage: sysfs shows how far a process came.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use hugebar::pci::Address;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::error::{Error, ErrorKind};
use super::tree::Tree;

const FOLDER: &str = "run/hugebar";

/// The first line.
const VERSION: &str = "hugebar 1";

/// What a function had before it was bound.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Record {
    /// Its driver.
    pub driver: Option<String>,
    /// Its `driver_override`.
    pub driver_override: Option<String>,
}

/// Whether this can be the name of a driver: it becomes a part of paths.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.+:".contains(&byte);
    !name.is_empty() && name.len() < 64 && !name.starts_with('.') && name.bytes().all(plain)
}

/// One driver a line; nothing stands for none.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |own: &Option<String>| own.clone().unwrap_or_default();
        write!(
            f,
            "{VERSION}\ndriver={}\ndriver_override={}\n",
            name(&self.driver),
            name(&self.driver_override)
        )
    }
}

impl Record {
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(VERSION)?.strip_prefix("\ndriver=")?;
        let (driver, over) = rest.strip_suffix('\n')?.split_once("\ndriver_override=")?;
        let name = |own: &str| match own {
            "" => Some(None),
            own => is_name(own).then(|| Some(own.to_owned())),
        };
        Some(Self {
            driver: name(driver)?,
            driver_override: name(over)?,
        })
    }

    /// Reads the record of a function; `None` if there is none.
    pub(super) fn read(tree: &Tree, address: Address) -> Result<Option<Self>, Error> {
        let path = path(tree, address);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::call(path.display(), "read", &error)),
        };
        let malformed = || {
            let what = format!("invalid record {text:?}");
            Error::new(ErrorKind::Malformed, path.display(), what)
                .with_remedy("remove the file, and bind the device by hand")
        };
        Self::parse(&text).map(Some).ok_or_else(malformed)
    }

    /// Writes the record of a function that has none; one that it has stays.
    pub(super) fn write(&self, tree: &Tree, address: Address) -> Result<(), Error> {
        let target = path(tree, address);
        let draft = target.with_extension(format!("new-{}", std::process::id()));
        self.publish(&draft, &target)
            .map_err(|error| Error::call(target.display(), "write", &error))
    }

    fn publish(&self, draft: &PathBuf, target: &PathBuf) -> io::Result<()> {
        let mut file = File::create(draft)?;
        file.write_all(self.to_string().as_bytes())?;
        file.sync_all()?;
        match renameat_with(CWD, draft, CWD, target, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => fs::remove_file(draft),
            renamed => Ok(renamed?),
        }
    }

    /// Removes the record of a function.
    pub(super) fn remove(tree: &Tree, address: Address) -> Result<(), Error> {
        let path = path(tree, address);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::call(path.display(), "unlink", &error))
            }
            _ => Ok(()),
        }
    }
}

/// The file of a function.
pub(super) fn path(tree: &Tree, address: Address) -> PathBuf {
    tree.path(FOLDER).join(address.to_string())
}

/// Waits until no other process changes bindings (`flock` of the folder), and keeps others waiting while it is open.
pub(super) fn lock(tree: &Tree) -> Result<File, Error> {
    let folder = tree.path(FOLDER);
    let lock = || -> io::Result<File> {
        fs::create_dir_all(&folder)?;
        let file = File::open(&folder)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    };
    lock().map_err(|error| Error::call(folder.display(), "lock", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(driver: Option<&str>, over: Option<&str>) -> Record {
        Record {
            driver: driver.map(str::to_owned),
            driver_override: over.map(str::to_owned),
        }
    }

    #[test]
    fn the_first_record_stays_until_it_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::at(root.path());
        let address: Address = "0000:01:00.0".parse().unwrap();
        let first = record(Some("nvme"), None);
        assert!(first.write(&tree, address).is_err(), "no folder yet");
        let _lock = lock(&tree).unwrap();
        assert_eq!(Record::read(&tree, address).unwrap(), None);
        first.write(&tree, address).unwrap();
        record(Some("vfio-pci"), Some("vfio-pci"))
            .write(&tree, address)
            .unwrap();
        assert_eq!(Record::read(&tree, address).unwrap(), Some(first));
        let names = crate::sysfs::names(tree.path(FOLDER));
        assert_eq!(names, ["0000:01:00.0"], "no draft is left");
        for _ in 0..2 {
            Record::remove(&tree, address).unwrap();
        }
        assert_eq!(Record::read(&tree, address).unwrap(), None);
    }

    #[test]
    fn only_names_of_drivers_are_read() {
        for own in [record(None, None), record(Some("mlx5_core"), Some("a-b"))] {
            assert_eq!(Record::parse(&own.to_string()), Some(own));
        }
        for wrong in [
            "",
            "hugebar 2\ndriver=\ndriver_override=\n",
            "hugebar 1\ndriver=\ndriver_override=",
            "hugebar 1\ndriver=../../x\ndriver_override=\n",
            "hugebar 1\ndriver=..\ndriver_override=\n",
            "hugebar 1\ndriver=\ndriver_override=a/b\n",
            "hugebar 1\ndriver=a\ndriver_override=b\nc\n",
        ] {
            assert_eq!(Record::parse(wrong), None, "{wrong:?}");
        }
    }
}
