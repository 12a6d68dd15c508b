//! Where the kernel's files are: below `/`, or below a folder that imitates it.

use std::path::{Path, PathBuf};

use hugebar::pci::{Address, Function};

/// The files of a host.
#[derive(Clone, Debug)]
pub(crate) struct Tree(PathBuf);

impl Tree {
    /// This host's own.
    pub(crate) fn own() -> Self {
        Self::at("/")
    }

    /// Those below a folder.
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// A path such as `sys/class/net`.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.0.join(relative)
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
