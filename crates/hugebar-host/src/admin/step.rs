//! One step of a change, which can also be shown as a line for a shell.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hugebar::pci::Address;
use hugebar::vfio::remedy;

use super::error::{Error, ErrorKind};
use super::failed::failed;
use super::numvfs;
use super::owner::Owner;
use super::record::{self, Record};
use super::set_size;
use super::tree::Tree;

/// One step of a change. Displayed as a line for a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Load the module of a driver (`modprobe`).
    Load(String),
    /// Remember what the function has, in `/run/hugebar`.
    Remember(Address, Record),
    /// Set or clear the only driver that may bind the function (`driver_override`).
    Override(Address, Option<String>),
    /// Take the function from its driver.
    Unbind(Address),
    /// Give the function to a driver.
    Bind(Address, String),
    /// Have the kernel find a driver for the function.
    Probe(Address),
    /// Give the function's device files to a user.
    Own(Address, Owner),
    /// Set the number of virtual functions, from or to 0 (`sriov_numvfs`).
    VirtualFunctions(Address, u16),
    /// Give a BAR this size in bytes, which is one that the kernel lists (`resourceN_resize`).
    Resize(Address, u8, u64),
    /// Forget what the function had.
    Forget(Address),
}

impl Step {
    /// Does it. Writes that can sleep may take this long.
    pub(super) fn run(&self, tree: &Tree, limit: Duration) -> Result<(), Error> {
        match self {
            Self::Load(driver) => load(tree, driver),
            Self::Remember(address, record) => record.write(tree, *address),
            Self::Override(address, driver) => {
                let path = tree.device(*address).join("driver_override");
                // An empty line clears it.
                let text = driver.as_deref().unwrap_or("\n");
                let written = tree.write(&path, text, limit);
                written.map_err(|error| failed(tree, *address, "writing driver_override", &error))
            }
            Self::Unbind(address) => {
                let path = tree.device(*address).join("driver/unbind");
                match tree.write(&path, &address.to_string(), limit) {
                    // It has lost its driver meanwhile. While the kernel waits, the link to the driver is gone already.
                    Err(error)
                        if error.kind() != io::ErrorKind::TimedOut
                            && driver(tree, *address)?.is_none() =>
                    {
                        Ok(())
                    }
                    unbound => unbound
                        .map_err(|error| failed(tree, *address, "unbinding its driver", &error)),
                }
            }
            Self::Bind(address, driver) => bind(tree, *address, driver, limit),
            Self::Probe(address) => {
                let path = tree.path("sys/bus/pci/drivers_probe");
                let probed = tree.write(&path, &address.to_string(), limit);
                probed.map_err(|error| failed(tree, *address, "probing it", &error))
            }
            Self::Own(address, owner) => own(tree, *address, *owner),
            Self::VirtualFunctions(address, number) => numvfs::set(tree, *address, *number, limit),
            Self::Resize(address, bar, size) => set_size::set(tree, *address, *bar, *size, limit),
            Self::Forget(address) => Record::remove(tree, *address),
        }
    }
}

/// The driver of a function.
fn driver(tree: &Tree, address: Address) -> Result<Option<String>, Error> {
    Ok(tree.function(address)?.driver()?)
}

fn load(tree: &Tree, driver: &str) -> Result<(), Error> {
    let module = Command::new("modprobe")
        .args(["--", driver])
        .stdin(Stdio::null())
        .output();
    let output = module
        .map_err(|error| Error::call("modprobe", format!("running it for {driver}"), &error))?;
    if tree.driver(driver).exists() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let told = match told.trim() {
        "" => "the driver is not there after modprobe",
        told => told,
    };
    Err(Error::new(ErrorKind::NotFound, driver, told)
        .with_remedy("install the kernel's modules for it"))
}

fn bind(tree: &Tree, address: Address, name: &str, limit: Duration) -> Result<(), Error> {
    let path = tree.driver(name).join("bind");
    if !tree.driver(name).exists() {
        let error = Error::new(
            ErrorKind::NotFound,
            address,
            format!("the driver {name} is not loaded"),
        );
        return Err(error.with_remedy(format!(
            "load its module (modprobe {name}), then do this again"
        )));
    }
    let bound = tree.write(&path, &address.to_string(), limit);
    // It may have got it from elsewhere: what counts is whether it has it.
    let own = driver(tree, address)?;
    if own.as_deref() == Some(name) {
        return Ok(());
    }
    let what = format!("binding it to {name}");
    match bound {
        Ok(()) => Err(Error::new(
            ErrorKind::System,
            address,
            format!(
                "{what}: it has {} afterwards",
                own.as_deref().unwrap_or("no driver")
            ),
        )),
        Err(error) => {
            let error_of = failed(tree, address, &what, &error);
            let group = tree.function(address)?.iommu_group()?;
            // vfio_group_find_or_alloc: EINVAL without a group.
            match (error.raw_os_error(), group) {
                (Some(22), None) if hugebar::vfio::is_vfio(name) => {
                    Err(error_of
                        .with_remedy(format!("no IOMMU covers it: {}", remedy::iommu_off())))
                }
                _ => Err(error_of),
            }
        }
    }
}

/// The device files of a function, as far as they exist.
fn nodes(tree: &Tree, address: Address) -> Result<Vec<PathBuf>, Error> {
    let function = tree.function(address)?;
    let group = function.iommu_group()?;
    let mut nodes: Vec<_> = group
        .into_iter()
        .flat_map(|group| {
            [
                format!("/dev/vfio/{group}"),
                format!("/dev/vfio/noiommu-{group}"),
            ]
        })
        .map(PathBuf::from)
        .collect();
    nodes.extend(function.vfio_node()?);
    nodes.retain(|node| node.exists());
    Ok(nodes)
}

fn own(tree: &Tree, address: Address, owner: Owner) -> Result<(), Error> {
    let nodes = nodes(tree, address)?;
    if nodes.is_empty() {
        let what = "no device file of VFIO exists for it";
        return Err(Error::new(ErrorKind::NotFound, address, what)
            .with_remedy("run this where /dev is the host's"));
    }
    let give = |node: &Path| chown(node, Some(owner.user), owner.group);
    nodes.iter().try_for_each(|node| {
        give(node).map_err(|error| Error::call(node.display(), "chown", &error))
    })
}

/// A line for a shell.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tree = Tree::own();
        let device = |address: &Address| tree.device(*address).display().to_string();
        let file = |address: &Address| record::path(&tree, *address).display().to_string();
        match self {
            Self::Load(driver) => write!(f, "modprobe {driver}"),
            Self::Remember(address, record) => {
                let text = record.to_string().replace('\n', "\\n");
                write!(
                    f,
                    "mkdir -p /run/hugebar; printf '{text}' > {}",
                    file(address)
                )
            }
            Self::Override(address, driver) => {
                let driver = driver.as_deref().map(|name| format!(" {name}"));
                let driver = driver.unwrap_or_default();
                write!(f, "echo{driver} > {}/driver_override", device(address))
            }
            Self::Unbind(address) => {
                write!(f, "echo {address} > {}/driver/unbind", device(address))
            }
            Self::Bind(address, driver) => {
                write!(f, "echo {address} > {}/bind", tree.driver(driver).display())
            }
            Self::Probe(address) => write!(f, "echo {address} > /sys/bus/pci/drivers_probe"),
            Self::Own(address, owner) => {
                let device = device(address);
                write!(
                    f,
                    "chown {owner} /dev/vfio/$(basename $(readlink {device}/iommu_group)) \
                     /dev/vfio/devices/$(ls {device}/vfio-dev)"
                )
            }
            Self::VirtualFunctions(address, number) => {
                write!(f, "echo {number} > {}/sriov_numvfs", device(address))
            }
            Self::Resize(address, bar, size) => {
                let power = set_size::power(*size);
                write!(f, "echo {power} > {}/resource{bar}_resize", device(address))
            }
            Self::Forget(address) => write!(f, "rm {}", file(address)),
        }
    }
}

/// What [`Record::driver_override`] is now: `(null)` stands for none.
pub(super) fn driver_override(tree: &Tree, address: Address) -> Result<Option<String>, Error> {
    let path = tree.device(address).join("driver_override");
    let text =
        fs::read_to_string(&path).map_err(|error| Error::call(path.display(), "read", &error))?;
    Ok(match text.trim() {
        "" | "(null)" => None,
        name => Some(name.to_owned()),
    })
}
