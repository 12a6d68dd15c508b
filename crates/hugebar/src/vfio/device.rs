//! Devices: opened by address or by descriptor, their regions, access by `pread` and `pwrite`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::iommu::{AddressSpace, Container, Ioas};
use crate::pci::{Address, Function, Msix, Unassigned, config};
use crate::phys::Phys;
use crate::sys::abi::{self, DeviceInfo};
use crate::sys::{file, process, vfio};

use super::handle::{Attachment, Handle};
use super::{Region, remedy};

/// An open VFIO device.
///
/// Opening a device resets it and turns its memory decode on; closing it gives it back to the group.
/// A mapping of it lives on without it, and keeps the device busy until it is dropped. So do
/// [`Interrupts`](super::Interrupts).
///
/// Fields drop in order: the device is closed before what it is in.
///
/// `F` is its descriptor: its own, or one that is borrowed from whoever has opened it
/// ([`Device::borrowed`]).
#[derive(Debug)]
pub struct Device<F = OwnedFd> {
    pub(super) handle: Arc<Handle<F>>,
    info: DeviceInfo,
    pub(super) attachment: Attachment,
    pub(super) address: Option<Address>,
}

impl Device {
    /// Takes an open descriptor of a device, for example from a manager or jailer
    /// (`VFIO_DEVICE_GET_INFO`).
    ///
    /// With its address, sysfs is used; with its container, it can be populated. The opener
    /// keeps the group open. The descriptor becomes close-on-exec.
    ///
    /// # Errors
    ///
    /// If the file is not a VFIO device.
    pub fn from_fd(
        fd: OwnedFd,
        address: Option<Address>,
        container: Option<Arc<Container>>,
    ) -> Result<Self> {
        process::close_on_exec(fd.as_fd())
            .map_err(|errno| named(Error::call("fcntl", errno), address))?;
        Self::attached_to(fd, address, Attachment::Elsewhere(container))
    }
}

impl<'fd> Device<BorrowedFd<'fd>> {
    /// Borrows a device that other code has opened and continues to own, such as a `VfioDevice` of `vfio-ioctls`
    /// (`VFIO_DEVICE_GET_INFO`): nothing is duplicated or closed. With its address, sysfs is used.
    ///
    /// # Errors
    ///
    /// If the file is not a VFIO device.
    pub fn borrowed(fd: BorrowedFd<'fd>, address: Option<Address>) -> Result<Self> {
        Self::attached_to(fd, address, Attachment::Elsewhere(None))
    }
}

impl<F: AsFd> Device<F> {
    /// Makes a device that already answers `VFIO_DEVICE_GET_INFO`.
    pub(super) fn attached_to(
        fd: F,
        address: Option<Address>,
        attachment: Attachment,
    ) -> Result<Self> {
        let info = vfio::device_get_info(fd.as_fd()).map_err(|errno| {
            let error = Error::call(vfio::DEVICE_GET_INFO.name, errno);
            named(error, address).with_remedy("is the descriptor a VFIO device?")
        })?;
        Ok(Self {
            handle: Arc::new(Handle::new(fd, attachment.clone())),
            info,
            attachment,
            address,
        })
    }

    /// The device's address, if known.
    pub fn address(&self) -> Option<Address> {
        self.address
    }

    /// The device's container, if known.
    pub fn container(&self) -> Option<&Arc<Container>> {
        match &self.attachment {
            Attachment::Group(group) => Some(group.container()),
            Attachment::Elsewhere(container) => container.as_ref(),
            Attachment::Iommufd(_) => None,
        }
    }

    /// The number of the device's IOMMU group, if this crate opened it.
    pub fn group(&self) -> Option<u32> {
        match &self.attachment {
            Attachment::Group(group) => Some(group.number()),
            _ => None,
        }
    }

    /// The address space of an iommufd for which this crate bound the device.
    pub fn ioas(&self) -> Option<&Arc<Ioas>> {
        match &self.attachment {
            Attachment::Iommufd(ioas) => Some(ioas),
            _ => None,
        }
    }

    /// The device's I/O address space, into which memory is mapped for its DMA.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] without an IOMMU, and if other code has attached the device to an unknown
    /// address space.
    pub fn address_space(&self) -> Result<AddressSpace> {
        let space = match &self.attachment {
            Attachment::Group(group) => AddressSpace::of_container(group.container(), Some(group)),
            Attachment::Iommufd(ioas) => Ok(ioas.clone().into()),
            Attachment::Elsewhere(Some(container)) => AddressSpace::of_container(container, None),
            Attachment::Elsewhere(None) => {
                let operation = "the device's address space is unknown";
                Err(Error::new(ErrorKind::Unsupported, operation))
            }
        };
        space.map_err(|error| named(error, self.address))
    }

    /// The number of region indexes; some of them have no region.
    pub fn region_count(&self) -> u32 {
        self.info.num_regions
    }

    /// Whether it is a PCI device, whose regions 0 to 5 are its BARs.
    pub fn is_pci(&self) -> bool {
        self.info.flags & abi::DEVICE_PCI != 0
    }

    /// Whether the function can be reset on its own ([`Device::reset`]).
    pub fn can_reset(&self) -> bool {
        self.info.flags & abi::DEVICE_RESET != 0
    }

    /// Queries a region by its index (`VFIO_DEVICE_GET_REGION_INFO`); `None` if the device does not have
    /// it, such as an absent BAR.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] if the driver's answer is invalid.
    pub fn region(&self, index: u32) -> Result<Option<Region>> {
        if index >= self.info.num_regions {
            return Ok(None);
        }
        let (info, answer) = match self.region_info(index) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            answer => answer?,
        };
        if info.size == 0 {
            return Ok(None);
        }
        let msix = match self.is_pci() && index < abi::PCI_BARS {
            true => self.msix()?,
            false => None,
        };
        let table = msix.filter(|msix| u32::from(msix.table_bar) == index);
        let table = table.map(|msix| msix.table);
        let region = Region::parse(&info, &answer, table, process::page_size());
        region
            .map(Some)
            .map_err(|error| error.on(self.subject(index)))
    }

    /// Queries all regions of the device, mappable or not, as [`Device::region`] does. A region whose query fails is an
    /// error in the list, beside the others.
    pub fn regions(&self) -> Vec<Result<Region>> {
        let regions = (0..self.info.num_regions).map(|index| self.region(index));
        regions.filter_map(Result::transpose).collect()
    }

    /// A region that must exist.
    pub(crate) fn present_region(&self, index: u32) -> Result<Region> {
        self.region(index)?.ok_or_else(|| {
            let operation = "the device has no such region";
            let error = Error::new(ErrorKind::NotFound, operation).on(self.subject(index));
            match self.lacks_address(index) {
                true => error.with_remedy(format!(
                    "the kernel found no address for this BAR: {}",
                    remedy::NO_ADDRESS
                )),
                false => error,
            }
        })
    }

    /// Whether it is a BAR without an address, as far as known.
    fn lacks_address(&self, index: u32) -> bool {
        let function = self
            .address
            .filter(|_| self.is_pci())
            .and_then(|address| Function::at(address).ok());
        let unassigned = function.and_then(|function| {
            let resources = function.resources().ok()?;
            Some(function.header().ok()?.without_address(&resources))
        });
        let is_it = |own: &Unassigned| u32::from(own.bar) == index;
        unassigned.is_some_and(|all| all.iter().any(is_it))
    }

    pub(super) fn region_info(&self, index: u32) -> Result<(abi::RegionInfo, Vec<u8>)> {
        vfio::device_get_region_info(self.handle.fd.as_fd(), index).map_err(|errno| {
            let error = Error::call(vfio::DEVICE_GET_REGION_INFO.name, errno);
            match errno {
                rustix::io::Errno::INVAL => error.of_kind(ErrorKind::NotFound),
                _ => error,
            }
            .on(self.subject(index))
        })
    }

    /// Finds the MSI-X table and its pending bits by the capability in configuration space; `None` for
    /// a device without MSI-X.
    ///
    /// # Errors
    ///
    /// As [`Device::region_read`].
    pub fn msix(&self) -> Result<Option<Msix>> {
        if !self.is_pci() {
            return Ok(None);
        }
        let (config, _) = self.region_info(abi::PCI_CONFIG_REGION)?;
        config::msix(|offset, buffer| {
            self.read_exactly(abi::PCI_CONFIG_REGION, &config, u64::from(offset), buffer)
        })
    }

    /// What is known about the physical addresses behind a region: for a BAR the address in sysfs, or its
    /// natural alignment.
    ///
    /// A variant driver may put other memory in the BAR's place (`nvgrace-gpu`), which has another
    /// size: its addresses are unknown.
    pub fn phys(&self, region: &Region) -> Phys {
        if !self.is_pci() || region.index() >= abi::PCI_BARS {
            return Phys::Unknown;
        }
        let bars = self
            .address
            .and_then(|address| Function::at(address).ok()?.bars().ok());
        match bars.map(|bars| bars[region.index() as usize]) {
            None => Phys::Natural,
            Some(Some(bar)) if bar.size == region.size() => {
                match bar.start % process::page_size() {
                    0 => Phys::At(bar.start),
                    _ => Phys::Natural,
                }
            }
            Some(_) => Phys::Unknown,
        }
    }

    /// Reads from a region (`pread`): returns an error where a mapping would raise a signal.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] beyond the end, otherwise the driver's error; a short read is an
    /// error.
    pub fn region_read(&self, index: u32, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let (info, _) = self.region_info(index)?;
        self.read_exactly(index, &info, offset, buffer)
    }

    pub(super) fn read_exactly(
        &self,
        index: u32,
        info: &abi::RegionInfo,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<()> {
        let position = self.position(index, info, offset, buffer.len())?;
        let read = file::read_at(self.handle.fd.as_fd(), buffer, position);
        self.complete("pread", index, read, buffer.len())
    }

    /// Writes to a region (`pwrite`). Errors as for [`Device::region_read`].
    pub fn region_write(&self, index: u32, offset: u64, bytes: &[u8]) -> Result<()> {
        let (info, _) = self.region_info(index)?;
        self.write_exactly(index, &info, offset, bytes)
    }

    pub(super) fn write_exactly(
        &self,
        index: u32,
        info: &abi::RegionInfo,
        offset: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let position = self.position(index, info, offset, bytes.len())?;
        let written = file::write_at(self.handle.fd.as_fd(), bytes, position);
        self.complete("pwrite", index, written, bytes.len())
    }

    /// The offset of an access in the device's file.
    fn position(&self, index: u32, info: &abi::RegionInfo, offset: u64, len: usize) -> Result<u64> {
        let end = offset.checked_add(len as u64);
        let inside = end.is_some_and(|end| end <= info.size);
        let position = info.offset.checked_add(offset).filter(|_| inside);
        position.ok_or_else(|| {
            let operation = format!("{len} bytes at {offset:#x} reach beyond the region");
            Error::new(ErrorKind::InvalidInput, operation).on(self.subject(index))
        })
    }

    fn complete(
        &self,
        name: &'static str,
        index: u32,
        done: rustix::io::Result<usize>,
        len: usize,
    ) -> Result<()> {
        match done {
            Ok(done) if done == len => Ok(()),
            Ok(done) => {
                let operation = format!("{name}: {done} of {len} bytes");
                Err(Error::new(ErrorKind::Malformed, operation))
            }
            Err(errno) => Err(Error::call(name, errno)),
        }
        .map_err(|error| error.on(self.subject(index)))
    }

    /// `0000:01:00.0 BAR 2`, as far as known.
    pub(crate) fn subject(&self, index: u32) -> String {
        let device = match self.address {
            Some(address) => address.to_string(),
            None => "device".to_owned(),
        };
        match index {
            bar if self.is_pci() && bar < abi::PCI_BARS => format!("{device} BAR {bar}"),
            abi::PCI_CONFIG_REGION if self.is_pci() => format!("{device} configuration space"),
            _ => format!("{device} region {index}"),
        }
    }
}

impl<F: AsFd> AsFd for Device<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.fd.as_fd()
    }
}

pub(super) fn named(error: Error, address: Option<Address>) -> Error {
    match address {
        Some(address) => error.on(address),
        None => error,
    }
}
