//! Writes the size of a BAR, checks that the BAR has it, and says why the kernel refuses it.

use std::io;
use std::time::Duration;

use hugebar::leaf::Bytes;
use hugebar::pci::{Address, Resource};
use rustix::io::Errno;

use super::child::ENOTSUPP;
use super::error::{Error, ErrorKind};
use super::failed::failed;
use super::tree::Tree;
use crate::show::growth;

/// A size as `resourceN_resize` takes it: 0 is 1 MiB.
pub(super) fn power(size: u64) -> u32 {
    size.checked_ilog2().unwrap_or(0).saturating_sub(20)
}

/// Writes `resourceN_resize` of a function (Linux 5.19), and reads the size back from `resource`.
pub(super) fn set(
    tree: &Tree,
    address: Address,
    bar: u8,
    wanted: u64,
    limit: Duration,
) -> Result<(), Error> {
    let what = format!("giving BAR {bar} a size of {}", Bytes(wanted));
    let former = size(tree, address, bar)?;
    let path = tree.device(address).join(format!("resource{bar}_resize"));
    let written = tree.write(&path, &power(wanted).to_string(), limit);
    match written {
        // The kernel has the device locked: nothing about it can be read.
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return Err(failed(tree, address, &what, &error));
        }
        Err(error) => {
            let told = refused(tree, address, bar, wanted, &what, &error);
            return Err(after(tree, address, bar, former, told));
        }
        Ok(()) => (),
    }
    match size(tree, address, bar)? {
        Some(now) if now.size == wanted => Ok(()),
        now => {
            let now = now.map_or_else(
                || "no address".to_owned(),
                |now| Bytes(now.size).to_string(),
            );
            let what = format!("{what}: the kernel has taken it, but the BAR has {now}");
            Err(Error::new(ErrorKind::System, address, what))
        }
    }
}

/// The line of a BAR that has an address.
pub(super) fn size(tree: &Tree, address: Address, bar: u8) -> Result<Option<Resource>, Error> {
    let resources = tree.function(address)?.resources()?;
    let line = resources.get(usize::from(bar)).copied().flatten();
    Ok(line.filter(|line| line.is_memory() && line.has_address()))
}

/// What the kernel's error means (`resourceN_resize` in `drivers/pci/pci-sysfs.c`, `pci_resize_resource`).
pub(super) fn refused(
    tree: &Tree,
    address: Address,
    bar: u8,
    wanted: u64,
    what: &str,
    error: &io::Error,
) -> Error {
    let told = failed(tree, address, what, error);
    let errno = error.raw_os_error();
    if errno == Some(ENOTSUPP) {
        let remedy = "the kernel keeps the addresses of firmware on this host bridge";
        return told.of_kind(ErrorKind::NotSupported).with_remedy(remedy);
    }
    match errno.map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::NOMEM) => no_room(tree, address, bar, wanted, told),
        // Before Linux 6.19 it is also what the kernel says if it can enlarge no window.
        Some(Errno::NOENT) if size(tree, address, bar).is_ok_and(|own| own.is_some()) => {
            no_room(tree, address, bar, wanted, told)
        }
        Some(Errno::NOENT) => told
            .of_kind(ErrorKind::NotSupported)
            .with_remedy("the BAR cannot be resized"),
        Some(Errno::BUSY) => told.of_kind(ErrorKind::InUse).with_remedy(
            "a driver has the device, or it has virtual functions, or its memory is decoded: unbind and remove these first",
        ),
        Some(Errno::INVAL) => told
            .of_kind(ErrorKind::InvalidInput)
            .with_remedy("hugebar resize without a size lists those that the BAR can have"),
        _ => told,
    }
}

/// Names the window that is too small.
fn no_room(tree: &Tree, address: Address, bar: u8, wanted: u64, told: Error) -> Error {
    let told = told.of_kind(ErrorKind::NoSpace);
    let found = tree.function(address).ok().and_then(|function| {
        let line = size(tree, address, bar).ok().flatten();
        growth(
            &function,
            line.is_none_or(|line| line.is_prefetchable()),
            wanted,
        )
    });
    match found {
        Some(own) => told.with_remedy(format!("{own}: {}", own.remedy)),
        None => told.with_remedy(crate::doctor::NO_ROOM),
    }
}

/// Adds to an error that the BAR has lost its address.
fn after(tree: &Tree, address: Address, bar: u8, former: Option<Resource>, told: Error) -> Error {
    let now = size(tree, address, bar).ok().flatten();
    if former.is_none() || now.is_some() {
        return told;
    }
    let remedy = told.remedy().unwrap_or_default().to_owned();
    told.with_remedy(format!(
        "the BAR has lost its address: remove the device and rescan the bus (echo 1 > /sys/bus/pci/devices/{address}/remove; \
         echo 1 > /sys/bus/pci/rescan); {remedy}"
    ))
}
