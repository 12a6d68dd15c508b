//! What a device is in use for, and so must not lose its driver: one file for each subject.

mod below;
mod block;
mod clients;
mod console;
mod found;
pub(super) mod function;
mod net;
mod usb;

use hugebar::pci::Function;

use super::tree::Tree;
use crate::error::Error;
use below::Below;

pub use found::Use;

/// Finds the uses of a function, from sysfs, `/proc`, and by opening its block devices for exclusive use
/// (`O_RDONLY | O_EXCL`), which reads nothing but can wake a disk. None if it has no driver.
///
/// # Errors
///
/// If sysfs or `/proc` cannot be read.
pub fn uses(function: &Function) -> Result<Vec<Use>, Error> {
    of(&Tree::own(), function)
}

pub(crate) fn of(tree: &Tree, function: &Function) -> Result<Vec<Use>, Error> {
    let driver = function.driver()?;
    let folder = tree.device(function.address());
    let below = Below::read(&folder);
    let mut uses = function::uses(function, driver.as_deref(), &folder)?;
    if driver.is_some() {
        uses.extend(block::uses(tree, &below));
        uses.extend(net::uses(&below));
        uses.extend(console::uses(&folder, &below));
        uses.extend(usb::uses(tree, function, &folder, &below));
        uses.extend(clients::uses(tree, function.address(), &below)?);
    }
    Ok(uses)
}

#[cfg(test)]
mod tests;
