//! A host in a folder that imitates sysfs: one function, and others that a test adds.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use hugebar::pci::Address;

use super::tree::{Answer, Tree};

/// The function.
pub(super) const DEVICE: &str = "0000:01:00.0";

/// The folder of the port that it is behind.
pub(super) const PORT: &str = "sys/devices/pci0000:00/0000:00:01.0";

/// A line of `resource` without a resource.
pub(super) const ZERO: &str = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";

pub(super) struct Fake {
    folder: tempfile::TempDir,
    answer: Option<Answer>,
}

impl Fake {
    /// Its files only take what is written to them.
    pub(super) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            answer: None,
        }
    }

    /// It does with what is written as this function says.
    pub(super) fn answering(answer: Answer) -> Self {
        Self {
            answer: Some(answer),
            ..Self::new()
        }
    }

    pub(super) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn tree(&self) -> Tree {
        match self.answer {
            Some(answer) => Tree::answering(self.root(), answer),
            None => Tree::at(self.root()),
        }
    }

    /// Adds a function, the name of whose folder is its address.
    pub(super) fn function(&self, path: &str, class: &str, resource: &str) {
        let folder = self.root().join(path);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("class"), class).unwrap();
        fs::write(folder.join("resource"), resource).unwrap();
        let devices = self.root().join("sys/bus/pci/devices");
        fs::create_dir_all(&devices).unwrap();
        symlink(&folder, devices.join(folder.file_name().unwrap())).unwrap();
    }

    /// Writes a file of the function.
    pub(super) fn put(&self, name: &str, text: &str) {
        let path = self.tree().device(address()).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Gives the function this driver.
    pub(super) fn driver(&self, name: Option<&str>) {
        set_driver(&self.tree(), name);
    }
}

pub(super) fn address() -> Address {
    DEVICE.parse().unwrap()
}

/// Gives the function this driver.
pub(super) fn set_driver(tree: &Tree, name: Option<&str>) {
    let link = tree.device(address()).join("driver");
    let _ = fs::remove_file(&link);
    if let Some(name) = name {
        symlink(tree.driver(name), link).unwrap();
    }
}
