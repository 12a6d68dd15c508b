//! Opens devices in the way that the host supports: by group and container, or by their own node and iommufd.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::iommu::{Container, Ioas, IommuKind};
use crate::pci::{Address, Function};
use crate::sys::{file, process, vfio};

use super::device::named;
use super::firmware;
use super::group::{self, held_by_others, in_use, is_vfio, no_interrupt_remapping, not_viable};
use super::handle::Attachment;
use super::{Device, remedy};

/// A way to open a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Backend {
    /// By its IOMMU group and a container with type1.
    Type1,
    /// By its own node and an iommufd.
    Iommufd,
    /// By its group and a container without an IOMMU: the device can reach all memory.
    NoIommu,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Type1 => "type1",
            Self::Iommufd => "iommufd",
            Self::NoIommu => "noiommu",
        })
    }
}

impl Device {
    /// Opens the device at an address in its own address space, by the first backend that this
    /// host has and this process may use: type1, which can also populate BARs, or iommufd. Never without an
    /// IOMMU.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], [`ErrorKind::NotBound`], [`ErrorKind::NoIommu`],
    /// [`ErrorKind::GroupNotViable`], [`ErrorKind::NoInterruptRemapping`],
    /// [`ErrorKind::PermissionDenied`] or [`ErrorKind::Busy`], each with a remedy.
    /// Nothing stays open.
    ///
    /// ```no_run
    /// use hugebar::vfio::Device;
    /// let device = Device::open("0000:01:00.0".parse()?)?;
    /// if let Some(bar) = device.region(2)? {
    ///     println!("BAR 2 has {} bytes", bar.size());
    /// }
    /// # Ok::<(), hugebar::Error>(())
    /// ```
    pub fn open(address: Address) -> Result<Self> {
        let first = match Self::open_by(address, Backend::Type1) {
            Err(error) if concerns_backend(error.kind()) => error,
            decided => return decided,
        };
        match Self::open_by(address, Backend::Iommufd) {
            // Neither works: report the first one's error, which is more likely to be fixable.
            Err(error) if concerns_backend(error.kind()) => Err(first),
            decided => decided,
        }
    }

    /// Opens the device at an address by one backend, in its own address space.
    ///
    /// Without an IOMMU, the device's DMA can overwrite this process. So that has a separate
    /// function: [`Device::open_without_iommu`].
    ///
    /// # Errors
    ///
    /// As [`Device::open`]; [`ErrorKind::Unsupported`] if this host does not have the backend;
    /// [`ErrorKind::InvalidInput`] for [`Backend::NoIommu`].
    pub fn open_by(address: Address, backend: Backend) -> Result<Self> {
        // Check sysfs first, so that a wrong address is not reported as a VFIO error.
        Function::at(address)?;
        let subject = |error: Error| error.on(address);
        match backend {
            Backend::Type1 => {
                group_of(address)?;
                Self::open_in(address, &Container::open().map_err(subject)?)
            }
            Backend::NoIommu => {
                let operation = "opening a device without an IOMMU needs an unsafe call";
                let error = Error::new(ErrorKind::InvalidInput, operation);
                Err(subject(error.with_remedy("use Device::open_without_iommu")))
            }
            Backend::Iommufd => Self::open_on(address, &Ioas::open().map_err(subject)?),
        }
    }

    /// Opens the device at an address without an IOMMU ([`Container::open_without_iommu`]).
    ///
    /// # Errors
    ///
    /// As [`Device::open`]; [`ErrorKind::Unsupported`] if the mode is not allowed.
    ///
    /// # Safety
    ///
    /// The device can read and write all memory, including this process's. Whatever the device is made to do, for example by
    /// writes to its registers, it must not write to memory that is in use.
    #[allow(unsafe_code, reason = "a contract with the caller, passed on")]
    pub unsafe fn open_without_iommu(address: Address) -> Result<Self> {
        Function::at(address)?;
        // SAFETY: the caller's contract.
        let container = unsafe { Container::open_without_iommu() };
        Self::open_in(address, &container.map_err(|error| error.on(address))?)
    }

    /// Opens the device at an address in a container that other devices may share.
    ///
    /// # Errors
    ///
    /// As [`Device::open`].
    pub fn open_in(address: Address, container: &Arc<Container>) -> Result<Self> {
        let group = group::attached(group_of(address)?, address, container);
        let group = group.map_err(|error| explain(error, address))?;
        let fd = group::device(&group, address);
        let fd = fd.map_err(|error| explain(error, address))?;
        let device = Self::attached_to(fd, Some(address), Attachment::Group(group))?;
        keep_clear(&device);
        Ok(device)
    }

    /// Opens the device at an address by its own node (`/dev/vfio/devices/vfioN`) and attaches it to an
    /// address space of an iommufd that other devices may share.
    ///
    /// # Errors
    ///
    /// As [`Device::open`]; [`ErrorKind::Unsupported`] if the kernel has no such nodes.
    pub fn open_on(address: Address, ioas: &Arc<Ioas>) -> Result<Self> {
        let Some(node) = Function::at(address)?.vfio_node()? else {
            let error = Error::new(ErrorKind::NotBound, "the device has no VFIO device node")
                .with_remedy("this kernel has no VFIO device nodes (CONFIG_VFIO_DEVICE_CDEV)")
                .of_kind(ErrorKind::Unsupported);
            return Err(explain(error, address));
        };
        let fd = file::open_read_write(&node).map_err(|errno| {
            let error = Error::call("open", errno).on(node.display());
            let remedy = match errno {
                Errno::NOENT => "the node does not exist: pass it into this container or jail",
                Errno::ACCESS => "give this user read and write permission for the node",
                Errno::PERM => "the device cgroup of this process denies it",
                _ => return error,
            };
            error.with_remedy(remedy)
        })?;
        Self::bind(fd, Some(address), ioas)
    }

    /// Takes an open descriptor of a device's own node, binds it to the iommufd and
    /// attaches it to the address space (`VFIO_DEVICE_BIND_IOMMUFD`, `VFIO_DEVICE_ATTACH_IOMMUFD_PT`).
    /// The descriptor becomes close-on-exec.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] if the device is open elsewhere, [`ErrorKind::GroupNotViable`],
    /// [`ErrorKind::NoInterruptRemapping`], or any error of the ioctls on a wrong file.
    pub fn bind(fd: OwnedFd, address: Option<Address>, ioas: &Arc<Ioas>) -> Result<Self> {
        let subject = |error: Error| named(error, address);
        process::close_on_exec(fd.as_fd()).map_err(|errno| subject(Error::call("fcntl", errno)))?;
        vfio::device_bind_iommufd(fd.as_fd(), ioas.as_fd())
            .map_err(|errno| subject(bind_failed(errno, address)))?;
        vfio::device_attach_iommufd_pt(fd.as_fd(), ioas.id())
            .map_err(|errno| subject(attach_failed(errno, address)))?;
        let device = Self::attached_to(fd, address, Attachment::Iommufd(ioas.clone()))?;
        keep_clear(&device);
        Ok(device)
    }

    /// Moves the device to another address space of the iommufd that it is bound to
    /// ([`Ioas::sibling`]; `VFIO_DEVICE_ATTACH_IOMMUFD_PT`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the address space is on another iommufd, or the device is not
    /// bound to one by this crate.
    pub fn attach(&mut self, ioas: &Arc<Ioas>) -> Result<()> {
        let bound = self.ioas().is_some_and(|own| own.is_sibling(ioas));
        if !bound {
            let operation = "the device is not bound to the iommufd of this address space";
            return Err(self.subject_error(Error::new(ErrorKind::InvalidInput, operation)));
        }
        vfio::device_attach_iommufd_pt(self.handle.fd.as_fd(), ioas.id())
            .map_err(|errno| self.subject_error(attach_failed(errno, self.address)))?;
        self.attachment = Attachment::Iommufd(ioas.clone());
        self.handle.moved(self.attachment.clone());
        keep_clear(self);
        Ok(())
    }

    /// Takes the device out of its address space (`VFIO_DEVICE_DETACH_IOMMUFD_PT`): its DMA is blocked
    /// until [`Device::attach`]. Its BARs can still be mapped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if this crate has not bound the device to an iommufd.
    pub fn detach(&mut self) -> Result<()> {
        if self.ioas().is_none() {
            let operation = "the device is not bound to an iommufd";
            return Err(self.subject_error(Error::new(ErrorKind::InvalidInput, operation)));
        }
        vfio::device_detach_iommufd_pt(self.handle.fd.as_fd()).map_err(|errno| {
            self.subject_error(Error::call(vfio::DEVICE_DETACH_IOMMUFD_PT.name, errno))
        })
    }

    fn subject_error(&self, error: Error) -> Error {
        named(error, self.address)
    }

    /// How the device was opened, if this crate did so.
    pub fn backend(&self) -> Option<Backend> {
        match &self.attachment {
            Attachment::Iommufd(_) => Some(Backend::Iommufd),
            Attachment::Elsewhere(_) => None,
            Attachment::Group(group) => Some(match group.container().kind() {
                IommuKind::Type1 | IommuKind::Iommufd => Backend::Type1,
                IommuKind::None => Backend::NoIommu,
            }),
        }
    }
}

/// Leaves out the I/O addresses that PCI decodes itself. If sysfs does not tell them, the others do.
fn keep_clear(device: &Device) {
    let function = device.address().and_then(|own| Function::at(own).ok());
    // Without an IOMMU nothing is mapped.
    if let (Some(function), Ok(space)) = (function, device.address_space()) {
        space.keep_clear_of(&function.decoded());
    }
}

/// Whether an error concerns the backend, so that another one may work: the host does not
/// have it, this process may not use it, or its module requires interrupt remapping.
fn concerns_backend(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::Unsupported
            | ErrorKind::PermissionDenied
            | ErrorKind::NoInterruptRemapping
    )
}

/// The IOMMU group of the device at an address.
fn group_of(address: Address) -> Result<u32> {
    let function = Function::at(address)?;
    function.iommu_group()?.ok_or_else(|| {
        Error::new(ErrorKind::NoIommu, "the device has no IOMMU group")
            .on(address)
            .with_remedy(remedy::iommu_off())
    })
}

/// Explains why a device cannot be opened: often it is bound to another driver.
fn explain(error: Error, address: Address) -> Error {
    let could_be = [
        ErrorKind::NotBound,
        ErrorKind::NotFound,
        ErrorKind::Unsupported,
    ];
    if !could_be.contains(&error.kind()) {
        return error.on(address);
    }
    let Ok(function) = Function::at(address) else {
        return error.on(address);
    };
    let driver = function.driver();
    let operation = match &driver {
        Ok(Some(driver)) if is_vfio(driver) => return error.on(address),
        Ok(Some(driver)) => format!("the device is bound to {driver}, not to vfio-pci"),
        Ok(None) => "the device is bound to no driver".to_owned(),
        Err(_) => return error.on(address),
    };
    let driver = driver.ok().flatten();
    Error::new(ErrorKind::NotBound, operation)
        .on(address)
        .with_remedy(remedy::bind(&function, driver.as_deref()))
}

/// The group of a device, if both are known.
fn known_group(address: Option<Address>) -> Option<u32> {
    Function::at(address?).ok()?.iommu_group().ok()?
}

fn bind_failed(errno: Errno, address: Option<Address>) -> Error {
    let name = vfio::DEVICE_BIND_IOMMUFD.name;
    if let Some(error) = firmware::demanded(name, errno, known_group(address)) {
        return error;
    }
    let error = Error::call(name, errno);
    match errno {
        Errno::BUSY => {
            match known_group(address) {
                // Of two reasons for the same errno, sysfs shows this one.
                Some(group) if !held_by_others(group).is_empty() => not_viable(group, address),
                _ => error.with_remedy(
                    "another process, or this one, has the device open by its IOMMU group or by \
                     its own node",
                ),
            }
        }
        Errno::PERM => no_interrupt_remapping(error, "iommufd"),
        Errno::BADF => error.with_remedy("is the descriptor an iommufd?"),
        Errno::NOTTY => {
            error.with_remedy("is the descriptor a VFIO device, opened by its own node?")
        }
        _ => error,
    }
}

fn attach_failed(errno: Errno, address: Option<Address>) -> Error {
    let name = vfio::DEVICE_ATTACH_IOMMUFD_PT.name;
    if let Some(error) = firmware::demanded(name, errno, known_group(address)) {
        return error;
    }
    let error = Error::call(name, errno);
    match errno {
        Errno::PERM => no_interrupt_remapping(error, "iommufd"),
        Errno::NOENT => error.with_remedy("the iommufd has no address space with this ID"),
        Errno::BUSY => in_use(error, known_group(address)),
        _ => error,
    }
}
