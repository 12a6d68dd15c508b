//! Finds a function by the names that users give it.

use std::fs;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

use super::sysfs::failure;
use super::{Address, Function};

/// Finds a PCI function by name: `0000:01:00.0`, `01:00.0`, a path below `/sys`,
/// `/dev/vfio/devices/vfioN`, or `vendor:device` (hexadecimal IDs) if only one function has them.
///
/// Reads only sysfs, and opens no device.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] for another form, IDs that several functions have, or the path of a device
/// that is not a function, such as a mediated device,
/// [`ErrorKind::NotFound`] if there is no such function.
pub fn locate(name: &str) -> Result<Function> {
    if let Some(node) = name.strip_prefix("/dev/vfio/devices/") {
        let device = Path::new("/sys/class/vfio-dev").join(node).join("device");
        return by_path(&device, name);
    }
    if name.starts_with('/') {
        return by_path(Path::new(name), name);
    }
    if let Some(ids) = ids(name) {
        return by_ids(ids, name);
    }
    let address = name.parse::<Address>();
    let address = address.map_err(|error| {
        error.with_remedy("name a device as 0000:01:00.0, 01:00.0, 10de:2331, its path in /sys or its node in /dev/vfio/devices")
    })?;
    Function::at(address)
}

fn by_path(path: &Path, name: &str) -> Result<Function> {
    let real = path.canonicalize();
    let real = real.map_err(|error| failure("no such device", &error).on(name))?;
    match own(&real, Path::new("/sys/devices")) {
        Belongs::To(address) => Function::at(address),
        Belongs::ToAnother => {
            let operation =
                "the path of a device that is not a PCI function, but may lie below one";
            Err(Error::new(ErrorKind::InvalidInput, operation)
                .on(name)
                .with_remedy("to use the PCI function, name it directly"))
        }
        Belongs::ToNone => {
            Err(Error::new(ErrorKind::InvalidInput, "not the path of a PCI device").on(name))
        }
    }
}

/// Which device a path belongs to.
#[derive(Debug, PartialEq, Eq)]
enum Belongs {
    /// A PCI function: its folder, one of its files such as `resource2`, or an object that the kernel made only for
    /// it, such as `vfio-dev/vfio0`.
    To(Address),
    /// A device on another bus, such as a mediated device, whose parent is a PCI function. It has its own
    /// regions and driver.
    ToAnother,
    ToNone,
}

/// Finds the owner of a path without symbolic links. `devices` is sysfs's folder of devices.
fn own(real: &Path, devices: &Path) -> Belongs {
    let below = |path: &&Path| path.starts_with(devices) && *path != devices;
    for folder in real.ancestors().take_while(below) {
        // `../../bus/pci` for a device on a bus, `../../class/net` for a part of one.
        let Ok(subsystem) = fs::read_link(folder.join("subsystem")) else {
            continue;
        };
        let is_bus = subsystem
            .parent()
            .is_some_and(|parent| parent.ends_with("bus"));
        if !is_bus {
            continue;
        }
        let name = folder.file_name().and_then(|name| name.to_str());
        let address = name.filter(|_| subsystem.ends_with("bus/pci"));
        return match address.and_then(|name| name.parse().ok()) {
            Some(address) => Belongs::To(address),
            None => Belongs::ToAnother,
        };
    }
    Belongs::ToNone
}

/// `10de:2331`: two numbers of four digits.
fn ids(name: &str) -> Option<(u16, u16)> {
    let (vendor, device) = name.split_once(':')?;
    let id = |digits: &str| {
        let valid = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u16::from_str_radix(digits, 16).ok().filter(|_| valid)
    };
    Some((id(vendor)?, id(device)?))
}

fn by_ids(ids: (u16, u16), name: &str) -> Result<Function> {
    let mut found = Vec::new();
    for function in Function::all()? {
        match function.ids() {
            Ok(own) if own == ids => found.push(function),
            Ok(_) => (),
            // It was removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => (),
            Err(error) => return Err(error),
        }
    }
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Error::new(ErrorKind::NotFound, "no PCI device has these IDs").on(name)),
        several => {
            let list: Vec<_> = several.iter().map(|f| f.address().to_string()).collect();
            let operation = format!("{} PCI devices have these IDs", several.len());
            let remedy = format!("name one by its address: {}", list.join(", "));
            Err(Error::new(ErrorKind::InvalidInput, operation)
                .on(name)
                .with_remedy(remedy))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_two_times_four_digits() {
        assert_eq!(ids("10de:2331"), Some((0x10de, 0x2331)));
        for other in [
            "0000:01:00.0",
            "01:00.0",
            "10de",
            "10de:23",
            "10de:233g",
            "+0de:2331",
        ] {
            assert_eq!(ids(other), None, "{other}");
        }
    }

    /// A tree like sysfs: a function with a mediated device and a network interface.
    #[test]
    fn a_path_is_a_functions_only_if_it_is_its_own() {
        let root = tempfile::tempdir().unwrap();
        let devices = root.path().join("devices");
        let function = devices.join("pci0000:00/0000:00:01.0/0000:03:00.0");
        let mediated = function.join("83b8f4f2-509f-382f-3c1e-e6bfe0fa1001");
        let device = |folder: &Path, subsystem: &str| {
            fs::create_dir_all(folder).unwrap();
            let link = folder.join("subsystem");
            std::os::unix::fs::symlink(format!("../../../{subsystem}"), link).unwrap();
        };
        device(&devices.join("pci0000:00/0000:00:01.0"), "bus/pci");
        device(&function, "bus/pci");
        device(&function.join("net/eth0"), "class/net");
        device(&function.join("vfio-dev/vfio0"), "class/vfio-dev");
        device(&mediated, "bus/mdev");
        device(&mediated.join("vfio-dev/vfio1"), "class/vfio-dev");
        device(&function.join("virtio0/net/eth1"), "class/net");
        device(&function.join("virtio0"), "bus/virtio");
        device(&devices.join("platform/0000:00:00.0"), "bus/platform");
        fs::create_dir_all(devices.join("system/0000:00:00.0/notes")).unwrap();

        let own = |path: &Path| super::own(path, &devices);
        let address = Belongs::To("03:00.0".parse().unwrap());
        for path in ["", "resource2", "net/eth0", "vfio-dev/vfio0/dev"] {
            assert_eq!(own(&function.join(path)), address, "{path}");
        }
        for path in [
            mediated.clone(),
            mediated.join("vfio-dev/vfio1"),
            function.join("virtio0/net/eth1"),
            devices.join("platform/0000:00:00.0/notes"),
        ] {
            assert_eq!(own(&path), Belongs::ToAnother, "{path:?}");
        }
        for path in [
            root.path().join("elsewhere/0000:00:00.0/notes"),
            devices.join("system/0000:00:00.0/notes"),
            devices.join("pci0000:00"),
            devices.clone(),
        ] {
            assert_eq!(own(&path), Belongs::ToNone, "{path:?}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_forms_there_are() {
        let error = locate("gpu0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.remedy().unwrap().contains("0000:01:00.0"));
        assert_eq!(
            locate("/proc/self").unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(locate("/nowhere").unwrap_err().kind(), ErrorKind::NotFound);
    }
}
