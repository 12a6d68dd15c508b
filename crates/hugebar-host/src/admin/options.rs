//! How to change devices.

use std::time::Duration;

use super::owner::Owner;

/// How to bind and to restore, to create virtual functions, and to resize.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The driver to bind to, `vfio-pci` or a variant of it.
    pub driver: String,
    /// Takes devices that are in use.
    pub force: bool,
    /// Who gets the device files.
    pub owner: Option<Owner>,
    /// How long the kernel may take for a step.
    pub limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            driver: "vfio-pci".to_owned(),
            force: false,
            owner: None,
            limit: Duration::from_secs(30),
        }
    }
}
