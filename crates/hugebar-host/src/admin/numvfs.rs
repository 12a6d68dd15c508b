//! Writes the number of virtual functions, and says why the kernel refuses it.

use std::io;
use std::time::Duration;

use hugebar::pci::Address;
use hugebar::vfio::remedy;
use rustix::io::Errno;

use super::error::{Error, ErrorKind};
use super::failed::failed;
use super::record::Record;
use super::tree::Tree;
use super::uses::function::holders_of;
use crate::sysfs;

/// Writes `sriov_numvfs` of a function.
pub(super) fn set(
    tree: &Tree,
    address: Address,
    number: u16,
    limit: Duration,
) -> Result<(), Error> {
    let folder = tree.device(address);
    let what = match number {
        0 => "removing its virtual functions".to_owned(),
        number => format!("creating {number} virtual functions"),
    };
    let before = sysfs::virtual_functions(&folder);
    let path = folder.join("sriov_numvfs");
    match tree.write(&path, &number.to_string(), limit) {
        // While the kernel waits, the links to them have gone already.
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return Err(late(tree, address, &what, &before));
        }
        Err(error) => return Err(refused(tree, address, &what, &error)),
        Ok(()) => (),
    }
    let now = sysfs::virtual_functions(&folder);
    // What is remembered about their addresses is about others, which have gone without this command.
    now.iter().try_for_each(|own| Record::remove(tree, *own))?;
    let now = now.len();
    if now == usize::from(number) {
        return Ok(());
    }
    let what = format!("{what}: it has {now} afterwards");
    let error = Error::new(ErrorKind::System, address, what);
    Err(error.with_remedy("its driver decides how many there are; the kernel's log may say why"))
}

/// What the kernel's error means (`sriov_numvfs_store` and `sriov_enable`).
fn refused(tree: &Tree, address: Address, what: &str, error: &io::Error) -> Error {
    let told = failed(tree, address, what, error);
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    match errno {
        Some(Errno::NOENT) => told.of_kind(ErrorKind::NotSupported).with_remedy(
            "its driver creates none: bind one that does, such as vfio-pci with its parameter enable_sriov, or pci-pf-stub",
        ),
        Some(Errno::NOSYS) => told.of_kind(ErrorKind::NotSupported).with_remedy(
            "they depend on another function of the same device (the Function Dependency Link in its SR-IOV capability), which \
             has no SR-IOV",
        ),
        Some(Errno::RANGE) => told
            .of_kind(ErrorKind::InvalidInput)
            .with_remedy("its driver has lowered how many there can be: sriov_totalvfs"),
        Some(Errno::BUSY) => told
            .of_kind(ErrorKind::InUse)
            .with_remedy("it has others already, or a driver still uses them: remove them first"),
        Some(Errno::NOMEM | Errno::NOSPC) => told.of_kind(ErrorKind::NoSpace).with_remedy(format!(
            "the kernel has no room for their BARs or no bus numbers for them (its log says which): turn on SR-IOV and ARI \
             in the firmware; {}, or with pci=assign-busses",
            remedy::NO_ADDRESS
        )),
        _ => told,
    }
}

/// The kernel waits: for those who have one of the virtual functions that there were.
fn late(tree: &Tree, address: Address, what: &str, before: &[Address]) -> Error {
    let held = before.iter().filter_map(|own| {
        let holders = holders_of(&tree.function(*own).ok()?).ok()??;
        Some(format!("{own}: {holders}"))
    });
    let held: Vec<_> = held.collect();
    let held = match &held[..] {
        [] => "no process is known to have one".to_owned(),
        held => held.join("; "),
    };
    let what = format!("{what} takes too long, and the kernel goes on waiting; {held}");
    Error::new(ErrorKind::TimedOut, address, what)
        .with_remedy("end what uses them, then do this again")
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, address};
    use super::*;

    #[test]
    fn errors_of_the_kernel_are_explained() {
        let host = Fake::new();
        for (errno, kind, words) in [
            (Errno::NOENT, ErrorKind::NotSupported, "pci-pf-stub"),
            (Errno::NOSYS, ErrorKind::NotSupported, "another function"),
            (Errno::RANGE, ErrorKind::InvalidInput, "sriov_totalvfs"),
            (Errno::BUSY, ErrorKind::InUse, "remove them first"),
            (Errno::NOMEM, ErrorKind::NoSpace, "pci=assign-busses"),
            (Errno::NOSPC, ErrorKind::NoSpace, "pci=assign-busses"),
        ] {
            let error = io::Error::from(errno);
            let told = refused(&host.tree(), address(), "creating 4", &error);
            assert_eq!(told.kind(), kind, "{told}");
            assert_eq!(told.errno(), Some(errno.raw_os_error()));
            assert!(told.remedy().unwrap().contains(words), "{told}");
        }
        let other = io::Error::from(Errno::IO);
        let told = refused(&host.tree(), address(), "creating 4", &other);
        assert_eq!((told.kind(), told.remedy()), (ErrorKind::System, None));
    }
}
