//! Finds the function that a person means.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

use super::sysfs::failure;
use super::{Address, Function};

/// Finds a PCI function by what a person calls it: `0000:01:00.0`, `01:00.0`, a path below `/sys`,
/// `/dev/vfio/devices/vfioN`, or `vendor:device` (hexadecimal ids) where only one function has them.
///
/// Reads sysfs only, and opens no device.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] for none of these forms or ids that several functions have,
/// [`ErrorKind::NotFound`] when there is no such function.
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
        error.remedy("name a device as 0000:01:00.0, 01:00.0, 10de:2331, its path in /sys or its node in /dev/vfio/devices")
    })?;
    Function::at(address)
}

fn by_path(path: &Path, name: &str) -> Result<Function> {
    let real = path.canonicalize();
    let real = real.map_err(|error| failure("no such device", &error).on(name))?;
    let mut parts = real.components().rev();
    // A path to a file of the function, such as its resource2, means the function too.
    let address = parts.find_map(|part| part.as_os_str().to_str()?.parse().ok());
    match address {
        Some(address) => Function::at(address),
        None => Err(Error::new(ErrorKind::InvalidInput, "no PCI device's path").on(name)),
    }
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
        if function.ids()? == ids {
            found.push(function);
        }
    }
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Error::new(ErrorKind::NotFound, "no PCI device has these ids").on(name)),
        several => {
            let list: Vec<_> = several.iter().map(|f| f.address().to_string()).collect();
            let operation = format!("{} PCI devices have these ids", several.len());
            let remedy = format!("name one by its address: {}", list.join(", "));
            Err(Error::new(ErrorKind::InvalidInput, operation)
                .on(name)
                .remedy(remedy))
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

    #[test]
    fn nonsense_is_refused_with_the_forms_there_are() {
        let error = locate("gpu0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.advice().unwrap().contains("0000:01:00.0"));
        assert_eq!(
            locate("/proc/self").unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(locate("/nowhere").unwrap_err().kind(), ErrorKind::NotFound);
    }
}
