//! Where the kernel's files are: below `/`, or below a folder that imitates it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hugebar::pci::{Address, Function};

use super::child;

/// What a write to a file does, in a folder that answers as a kernel.
#[cfg(test)]
pub(crate) type Answer = fn(&Tree, &Path, &str) -> io::Result<()>;

/// The files of a host.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    #[cfg(test)]
    answer: Option<Answer>,
}

impl Tree {
    /// This host's own.
    pub(crate) fn own() -> Self {
        Self::at("/")
    }

    /// Those below a folder.
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            #[cfg(test)]
            answer: None,
        }
    }

    /// Those below a folder, where this function stands for the kernel.
    #[cfg(test)]
    pub(crate) fn answering(root: impl Into<PathBuf>, answer: Answer) -> Self {
        let answer = Some(answer);
        Self {
            answer,
            ..Self::at(root)
        }
    }

    /// Writes a text to a file of the kernel's, which may take this long ([`child::write`]).
    pub(super) fn write(&self, path: &Path, text: &str, limit: Duration) -> io::Result<()> {
        #[cfg(test)]
        if let Some(answer) = self.answer {
            return answer(self, path, text);
        }
        child::write(path, text, limit)
    }

    /// A path such as `sys/class/net`.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// The folder of all PCI functions.
    fn devices(&self) -> PathBuf {
        self.path("sys/bus/pci/devices")
    }

    /// The folder of a function.
    pub(crate) fn device(&self, address: Address) -> PathBuf {
        self.devices().join(address.to_string())
    }

    /// The folder of a driver.
    pub(crate) fn driver(&self, name: &str) -> PathBuf {
        self.path("sys/bus/pci/drivers").join(name)
    }

    /// The function at an address.
    pub(crate) fn function(&self, address: Address) -> hugebar::Result<Function> {
        Function::within(&self.devices(), address)
    }
}
