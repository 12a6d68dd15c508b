//! PCI functions in sysfs. Needs no privilege, and opens no device.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};

use super::Address;
use super::class::ClassCode;
use super::config::{self, Msix};
use super::header::Header;
use super::power::PowerState;
use super::resource::Resource;

/// Where the kernel lists PCI functions.
pub(super) const DEVICES: &str = "/sys/bus/pci/devices";

/// A base address register, as the kernel assigned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Physical address (HPA) of the first byte.
    pub start: u64,
    /// Size in bytes.
    pub size: u64,
}

/// A PCI function in sysfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    address: Address,
    path: PathBuf,
}

impl Function {
    /// Finds the function at an address.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is none.
    pub fn at(address: Address) -> Result<Self> {
        match Self::within(Path::new(DEVICES), address) {
            Err(error) if error.kind() == ErrorKind::NotFound && !Path::new(DEVICES).exists() => {
                Err(Error::new(ErrorKind::NotFound, "no PCI devices in sysfs")
                    .on(DEVICES)
                    .with_remedy("mount sysfs, or show this process /sys"))
            }
            found => found,
        }
    }

    /// The function at an address in another folder of PCI functions, such as a copy of sysfs. Only what lies in its own
    /// folder is read there: groups and nodes are this host's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is none.
    pub fn within(devices: &Path, address: Address) -> Result<Self> {
        let path = devices.join(address.to_string());
        match path.try_exists() {
            Ok(true) => Ok(Self { address, path }),
            Ok(false) => Err(Error::new(ErrorKind::NotFound, "no such PCI device")
                .on(address)
                .with_remedy("lspci -D lists all devices")),
            Err(error) => Err(failure("stat", &error).on(address)),
        }
    }

    /// Finds the function at an address in a folder like `/sys/bus/pci/devices`, such as that of a recorded tree.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is none.
    pub fn listed_in(folder: &Path, address: Address) -> Result<Self> {
        let path = folder.join(address.to_string());
        match path.try_exists() {
            Ok(true) => Ok(Self { address, path }),
            Ok(false) => {
                Err(Error::new(ErrorKind::NotFound, "no such PCI device").on(path.display()))
            }
            Err(error) => Err(failure("stat", &error).on(path.display())),
        }
    }

    /// All functions in such a folder, by address.
    pub fn all_in(folder: &Path) -> Result<Vec<Self>> {
        let mut functions = Vec::new();
        for name in names(folder)? {
            let Ok(address) = name.parse() else { continue };
            match Self::listed_in(folder, address) {
                // It was removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => (),
                function => functions.push(function?),
            }
        }
        functions.sort_by_key(|function| function.address);
        Ok(functions)
    }

    /// All functions of the machine, by address.
    pub fn all() -> Result<Vec<Self>> {
        let mut functions = Self::listed(Path::new(DEVICES))?;
        functions.sort_by_key(|function| function.address);
        Ok(functions)
    }

    /// The functions that a folder lists.
    fn listed(folder: &Path) -> Result<Vec<Self>> {
        let mut functions = Vec::new();
        for name in names(folder)? {
            let Ok(address) = name.parse() else { continue };
            match Self::at(address) {
                // It was removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => (),
                function => functions.push(function?),
            }
        }
        Ok(functions)
    }

    /// The function's address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Its folder in sysfs.
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// Vendor and device id of the subsystem: the card that the device is on. Bridges have none.
    pub fn subsystem_ids(&self) -> Result<(u16, u16)> {
        Ok((self.id("subsystem_vendor")?, self.id("subsystem_device")?))
    }

    /// Vendor and device id.
    pub fn ids(&self) -> Result<(u16, u16)> {
        Ok((self.id("vendor")?, self.id("device")?))
    }

    fn id(&self, name: &str) -> Result<u16> {
        let text = self.text(name)?;
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        u16::from_str_radix(digits, 16).map_err(|_| self.malformed(name, &text))
    }

    /// Reads the class code from sysfs (`class`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] if the file does not hold a class code.
    pub fn class_code(&self) -> Result<ClassCode> {
        let text = self.text("class")?;
        ClassCode::parse(&text).ok_or_else(|| self.malformed("class", &text))
    }

    /// Reads the power state from sysfs (`power_state`), without waking the device; `None` if the kernel does not know it,
    /// and before Linux 5.9.
    pub fn power_state(&self) -> Result<Option<PowerState>> {
        match self.path.join("power_state").try_exists() {
            Ok(true) => Ok(PowerState::parse(&self.text("power_state")?)),
            Ok(false) => Ok(None),
            Err(error) => Err(failure("stat", &error).on(self.subject("power_state"))),
        }
    }

    /// Whether the function is a bridge to another bus (class 0x0604 or 0x0607), which VFIO never binds:
    /// its header is not that of a device.
    pub fn is_bridge(&self) -> bool {
        self.class_code().is_ok_and(ClassCode::is_bridge)
    }

    /// The name of the driver that the function is bound to.
    pub fn driver(&self) -> Result<Option<String>> {
        self.link("driver")
    }

    /// The number of the function's IOMMU group; `None` while no IOMMU covers it.
    pub fn iommu_group(&self) -> Result<Option<u32>> {
        let Some(name) = self.link("iommu_group")? else {
            return Ok(None);
        };
        let number = name.parse();
        number
            .map(Some)
            .map_err(|_| self.malformed("iommu_group", &name))
    }

    /// The function's own VFIO node, `/dev/vfio/devices/vfioN`; `None` while it is not bound to a VFIO driver, or
    /// if the kernel has no such nodes.
    pub fn vfio_node(&self) -> Result<Option<PathBuf>> {
        let list = self.path.join("vfio-dev");
        match list.try_exists() {
            Ok(true) => {
                let name = names(&list)?
                    .into_iter()
                    .find(|name| name.starts_with("vfio"));
                // A kernel without such nodes can still have the list.
                let numbered = |name: &String| list.join(name).join("dev").exists();
                let name = name.filter(numbered);
                Ok(name.map(|name| Path::new("/dev/vfio/devices").join(name)))
            }
            Ok(false) => Ok(None),
            Err(error) => Err(failure("stat", &error).on(list.display())),
        }
    }

    /// The functions of an IOMMU group.
    pub fn in_group(group: u32) -> Result<Vec<Self>> {
        let path = format!("/sys/kernel/iommu_groups/{group}/devices");
        Self::listed(Path::new(&path))
    }

    /// Reads all resources by number (`resource`): BARs 0 to 5, the ROM, then the windows of a bridge; `None` for an
    /// absent one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] for an invalid line.
    pub fn resources(&self) -> Result<Vec<Option<Resource>>> {
        let text = self.text("resource")?;
        let parse = |line| Resource::parse(line).ok_or_else(|| self.malformed("resource", line));
        text.lines().map(parse).collect()
    }

    /// Reads BARs 0 to 5 by number; `None` for one that is absent, an upper half, or not assigned.
    pub fn bars(&self) -> Result<[Option<Bar>; 6]> {
        let mut bars = [None; 6];
        for (bar, resource) in bars.iter_mut().zip(self.resources()?) {
            // A BAR of I/O ports is not memory.
            let mapped = resource.filter(|own| own.is_memory() && own.has_address());
            *bar = mapped.map(|Resource { start, size, .. }| Bar { start, size });
        }
        Ok(bars)
    }

    /// Reads the header of its configuration space (`config`), which wakes a device in D3cold.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is too short.
    pub fn header(&self) -> Result<Header> {
        let subject = |error: Error| error.on(self.subject("config"));
        let file = fs::File::open(self.path.join("config"));
        let mut file = file.map_err(|error| subject(failure("open", &error)))?;
        let mut bytes = [0; 64];
        let read = io::Read::read_exact(&mut file, &mut bytes);
        read.map_err(|error| subject(failure("read", &error)))?;
        Ok(Header::new(bytes))
    }

    /// Reads where its MSI-X table lies, from its configuration space (`config`), which wakes a device in D3cold.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`] if this process may read only the header: the rest needs `CAP_SYS_ADMIN`.
    pub fn msix(&self) -> Result<Option<Msix>> {
        let subject = |error: Error| error.on(self.subject("config"));
        let file = fs::File::open(self.folder().join("config"));
        let file = file.map_err(|error| subject(failure("open", &error)))?;
        config::msix(|offset, buffer| {
            let read = file.read_exact_at(buffer, offset.into());
            read.map_err(|error| match error.kind() {
                // The kernel ends the file there for others.
                io::ErrorKind::UnexpectedEof => {
                    let operation = "reading beyond the header of configuration space";
                    subject(Error::new(ErrorKind::PermissionDenied, operation))
                        .with_remedy("needs CAP_SYS_ADMIN")
                }
                _ => subject(failure("read", &error)),
            })
        })
    }

    /// Whether the function lies behind another one, such as a bridge, or a VMD controller whose devices have
    /// their own domain.
    pub fn is_behind(&self, other: Address) -> bool {
        let path = fs::canonicalize(&self.path).unwrap_or_default();
        lies_behind(&path, other)
    }

    fn text(&self, name: &str) -> Result<String> {
        let text = fs::read_to_string(self.path.join(name));
        let text = text.map_err(|error| failure("read", &error).on(self.subject(name)))?;
        Ok(text.trim_end().to_owned())
    }

    /// The last component of a symbolic link's target; `None` if there is no link.
    fn link(&self, name: &str) -> Result<Option<String>> {
        match fs::read_link(self.path.join(name)) {
            Ok(target) => Ok(target
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failure("readlink", &error).on(self.subject(name))),
        }
    }

    fn subject(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn malformed(&self, name: &str, text: &str) -> Error {
        let operation = format!("invalid content {text:?}");
        Error::new(ErrorKind::Malformed, operation).on(self.subject(name))
    }
}

/// Whether a function lies behind another one. `path` is its path below `/sys/devices`.
fn lies_behind(path: &Path, other: Address) -> bool {
    let name = other.to_string();
    let parents = path.parent().into_iter().flat_map(Path::components);
    parents
        .map(|part| part.as_os_str())
        .any(|part| part == name.as_str())
}

pub(super) fn failure(operation: &'static str, error: &io::Error) -> Error {
    Error::call(operation, Errno::from_io_error(error).unwrap_or(Errno::IO))
}

fn names(path: &Path) -> Result<Vec<String>> {
    let refused = |error: io::Error| failure("readdir", &error).on(path.display());
    let entries = fs::read_dir(path).map_err(refused)?;
    entries
        .map(|entry| Ok(entry.map_err(refused)?.file_name().to_string_lossy().into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_a_vmd_controller_lie_behind_it() {
        let path = "/sys/devices/pci0000:2a/0000:2a:00.5/pci10000:00/10000:00:02.0/10000:01:00.0";
        let behind = |address: &str| lies_behind(Path::new(path), address.parse().unwrap());
        assert!(behind("0000:2a:00.5") && behind("10000:00:02.0"));
        assert!(!behind("10000:01:00.0"), "not behind itself");
        assert!(!behind("0000:2a:00.0"));
    }

    #[test]
    fn a_function_that_is_gone_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ffff:1f:1f.7", "nonsense"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(Function::listed(folder.path()).unwrap(), []);
    }
}
