//! Reads of sysfs that several subjects need.

use std::fs;
use std::path::{Path, PathBuf};

use hugebar::pci::{Address, Function};

/// The names in a folder, sorted; none if it is missing or cannot be read.
pub(crate) fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The text of a file of sysfs, without its line end; empty if there is none.
pub(crate) fn text(path: impl AsRef<Path>) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim_end().to_owned()
}

/// Whether a module's parameter is on (`/sys/module/MODULE/parameters/NAME`).
pub(crate) fn is_on(module: &str, parameter: &str) -> bool {
    let path = format!("/sys/module/{module}/parameters/{parameter}");
    fs::read_to_string(path).is_ok_and(|text| matches!(text.trim(), "Y" | "1"))
}

/// The path of a function's file (`/sys/bus/pci/devices/ADDRESS/NAME`), or of its folder for an empty name.
pub(crate) fn of(function: &Function, name: &str) -> PathBuf {
    function.folder().join(name)
}

/// The virtual functions of a physical function, given its folder in sysfs, in the order of their numbers (`virtfnN`).
/// Unlike `sriov_numvfs`, these links can be read while the kernel has the device locked.
pub(crate) fn virtual_functions(folder: &Path) -> Vec<Address> {
    let numbered = names(folder).into_iter().filter_map(|name| {
        let number: u32 = name.strip_prefix("virtfn")?.parse().ok()?;
        let target = fs::read_link(folder.join(&name)).ok()?;
        Some((number, target.file_name()?.to_str()?.parse().ok()?))
    });
    let mut numbered: Vec<(u32, Address)> = numbered.collect();
    numbered.sort_unstable();
    numbered.into_iter().map(|(_, address)| address).collect()
}

/// The mediated devices that a driver has created on a device, given its folder in sysfs.
pub(crate) fn mediated(folder: &Path) -> Vec<String> {
    let mut names = names(folder);
    names.retain(|name| {
        let subsystem = fs::read_link(folder.join(name).join("subsystem"));
        subsystem.is_ok_and(|subsystem| subsystem.ends_with("bus/mdev"))
    });
    names
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn virtual_functions_are_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for number in [10, 2, 0] {
            let target = format!("../0000:01:00.{}", number % 8);
            symlink(target, folder.path().join(format!("virtfn{number}"))).unwrap();
        }
        fs::write(folder.path().join("virtfn"), "").unwrap();
        let found = virtual_functions(folder.path());
        let found: Vec<_> = found.iter().map(Address::to_string).collect();
        assert_eq!(found, ["0000:01:00.0", "0000:01:00.2", "0000:01:00.2"]);
    }

    #[test]
    fn mediated_devices_lie_below_their_parent() {
        const UUID: &str = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
        let function = tempfile::tempdir().unwrap();
        for (name, subsystem) in [(UUID, "bus/mdev"), ("drm", "class/drm"), ("power", "")] {
            let folder = function.path().join(name);
            fs::create_dir(&folder).unwrap();
            if !subsystem.is_empty() {
                symlink(format!("../../../../{subsystem}"), folder.join("subsystem")).unwrap();
            }
        }
        assert_eq!(mediated(function.path()), [UUID]);
        fs::remove_dir_all(function.path().join(UUID)).unwrap();
        assert!(mediated(function.path()).is_empty());
    }
}
