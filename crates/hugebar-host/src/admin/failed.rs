//! The error of a write to sysfs that has failed or takes too long.

use std::io;

use hugebar::pci::Address;

use super::error::{Error, ErrorKind};
use super::tree::Tree;
use super::uses::function::holders_of;

/// The error of a write. After a time-out it names who has the device.
pub(super) fn failed(tree: &Tree, address: Address, operation: &str, error: &io::Error) -> Error {
    if error.kind() != io::ErrorKind::TimedOut {
        return Error::call(address, operation, error);
    }
    let function = tree.function(address).ok();
    let holders = function.and_then(|function| holders_of(&function).ok().flatten());
    let holders = holders.unwrap_or_else(|| "no process is known to have it".to_owned());
    let what = format!("{operation} takes too long, and the kernel goes on waiting; {holders}");
    let error = Error::new(ErrorKind::TimedOut, address, what);
    error.with_remedy("end what uses it, then do this again; hugebar restore puts everything back")
}
