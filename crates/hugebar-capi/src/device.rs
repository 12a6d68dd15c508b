//! Devices: opening them, their regions, and what can be done with them as a whole.

use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use hugebar::iommu::Container;
use hugebar::layout::Area;
use hugebar::pci::Address;
use hugebar::phys::Phys;
use hugebar::vfio::{Backend, Device, Region};

use crate::argument::{array, buffer, descriptor, fill, invalid, text};
use crate::error::{Failure, Result, call};
use crate::handle;

/// By type1, which can also populate BARs, or else by iommufd.
pub const HUGEBAR_BACKEND_AUTO: u32 = 0;
/// By the device's IOMMU group and a container with type1.
pub const HUGEBAR_BACKEND_TYPE1: u32 = 1;
/// By the device's own node and an iommufd.
pub const HUGEBAR_BACKEND_IOMMUFD: u32 = 2;
/// By its group and a container without an IOMMU. This library opens no device in this way.
pub const HUGEBAR_BACKEND_NOIOMMU: u32 = 3;
/// Other code has opened it.
pub const HUGEBAR_BACKEND_OTHER: u32 = 4;

/// The region can be read.
pub const HUGEBAR_REGION_READ: u32 = 1;
/// The region can be written.
pub const HUGEBAR_REGION_WRITE: u32 = 2;
/// The driver offers a mapping of the region.
pub const HUGEBAR_REGION_MMAP: u32 = 4;

/// Nothing more is known than that the region is naturally aligned, as BARs are.
pub const HUGEBAR_PHYS_NATURAL: u32 = 0;
/// The physical address is known.
pub const HUGEBAR_PHYS_AT: u32 = 1;
/// The physical address is unknown: counts of leaves are a guess.
pub const HUGEBAR_PHYS_UNKNOWN: u32 = 2;

/// An open VFIO device.
pub struct hugebar_device(pub(crate) Device);

/// A part of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct hugebar_area {
    /// Where it starts in the region, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// A region of a device.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_region {
    /// Its index; 0 to 5 are the BARs of a PCI device.
    pub index: u32,
    /// `HUGEBAR_REGION_READ` and others.
    pub flags: u32,
    /// Its length in bytes.
    pub size: u64,
    /// Where it starts in the device's file.
    pub fd_offset: u64,
    /// What is known about its physical addresses: `HUGEBAR_PHYS_AT` or another.
    pub phys: u32,
    /// Its physical address with `HUGEBAR_PHYS_AT`, otherwise 0.
    pub phys_address: u64,
}

/// Where a device has its MSI-X table and the pending bits.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_msix {
    /// How many vectors it has.
    pub vectors: u32,
    /// The BAR of the table.
    pub table_bar: u32,
    /// The table, in this BAR.
    pub table: hugebar_area,
    /// The BAR of the pending bits.
    pub pba_bar: u32,
    /// The pending bits, in that BAR.
    pub pba: hugebar_area,
}

impl From<Area> for hugebar_area {
    fn from(area: Area) -> Self {
        Self {
            offset: area.offset,
            size: area.size,
        }
    }
}

/// A PCI address.
///
/// # Safety
///
/// As for [`text`].
unsafe fn address(pointer: *const c_char) -> Result<Address> {
    // SAFETY: the caller's contract.
    Ok(unsafe { text(pointer) }?.parse::<Address>()?)
}

/// A duplicate of a caller's descriptor.
fn duplicate(fd: c_int) -> Result<OwnedFd> {
    // SAFETY: the caller keeps it open during the call.
    let fd = unsafe { descriptor(fd) }?;
    fd.try_clone_to_owned().map_err(|error| {
        let errno = error.raw_os_error().unwrap_or(libc::EBADF);
        Failure::new(
            errno,
            format!("duplicating descriptor {}: {error}", fd.as_raw_fd()),
        )
    })
}

/// A region that must be there.
pub(crate) fn region(device: &Device, index: u32) -> Result<Region> {
    let missing = || Failure::new(libc::ENOENT, format!("the device has no region {index}"));
    device.region(index)?.ok_or_else(missing)
}

/// Opens the device at a PCI address, such as "0000:01:00.0", in an I/O address space of its own. `backend` is
/// `HUGEBAR_BACKEND_AUTO`, `_TYPE1` or `_IOMMUFD`. The device must be bound to vfio-pci or a variant of it. Opening resets it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_device_open(
    address: *const c_char,
    backend: u32,
    device: Option<&mut MaybeUninit<*mut hugebar_device>>,
) -> c_int {
    handle::give(device, || {
        // SAFETY: the caller's contract.
        let address = unsafe { self::address(address) }?;
        Ok(hugebar_device(match backend {
            HUGEBAR_BACKEND_AUTO => Device::open(address)?,
            HUGEBAR_BACKEND_TYPE1 => Device::open_by(address, Backend::Type1)?,
            HUGEBAR_BACKEND_IOMMUFD => Device::open_by(address, Backend::Iommufd)?,
            _ => {
                return Err(invalid(format!(
                    "{backend} is no backend to open a device by"
                )));
            }
        }))
    })
}

/// Opens the device at a PCI address in the I/O address space of another one, by the same backend.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_device_open_beside(
    address: *const c_char,
    other: *const hugebar_device,
    device: Option<&mut MaybeUninit<*mut hugebar_device>>,
) -> c_int {
    handle::give(device, || {
        let other = handle::get(other)?;
        // SAFETY: the caller's contract.
        let address = unsafe { self::address(address) }?;
        let opened = match (other.0.container(), other.0.ioas()) {
            (Some(container), _) => Device::open_in(address, container)?,
            (None, Some(ioas)) => Device::open_on(address, ioas)?,
            (None, None) => {
                let message = "the other device's address space is unknown";
                return Err(Failure::new(libc::ENOTSUP, message));
            }
        };
        Ok(hugebar_device(opened))
    })
}

/// Takes a device that other code has opened. `fd` is its descriptor, which is duplicated; `address` is its PCI address, or
/// NULL if that is unknown: then it cannot be measured. `container_fd` is the container that it is in, or -1; populating
/// then uses that container, at I/O addresses that are free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_device_from_fd(
    fd: c_int,
    address: *const c_char,
    container_fd: c_int,
    device: Option<&mut MaybeUninit<*mut hugebar_device>>,
) -> c_int {
    handle::give(device, || {
        let address = match address.is_null() {
            true => None,
            // SAFETY: the caller's contract.
            false => Some(unsafe { self::address(address) }?),
        };
        let container = match container_fd {
            -1 => None,
            fd => Some(Container::from_fd(duplicate(fd)?)?),
        };
        let opened = Device::from_fd(duplicate(fd)?, address, container)?;
        Ok(hugebar_device(opened))
    })
}

/// Closes a device. Its mappings and DMA memory stay, and keep it busy until they are closed as well.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_device_close(device: *mut hugebar_device) -> c_int {
    handle::close(device)
}

/// Returns the device's descriptor, which stays the library's: do not close it, and use it no longer than the device.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_device_fd(
    device: *const hugebar_device,
    fd: Option<&mut MaybeUninit<c_int>>,
) -> c_int {
    handle::tell(fd, device, |own| Ok(own.0.as_fd().as_raw_fd()))
}

/// Returns how the device was opened: `HUGEBAR_BACKEND_TYPE1` or another.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_device_backend(
    device: *const hugebar_device,
    backend: Option<&mut MaybeUninit<u32>>,
) -> c_int {
    handle::tell(backend, device, |own| {
        Ok(match own.0.backend() {
            Some(Backend::Type1) => HUGEBAR_BACKEND_TYPE1,
            Some(Backend::Iommufd) => HUGEBAR_BACKEND_IOMMUFD,
            Some(Backend::NoIommu) => HUGEBAR_BACKEND_NOIOMMU,
            None => HUGEBAR_BACKEND_OTHER,
        })
    })
}

/// Returns how many region indexes the device has. Some of them have no region.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_device_region_count(
    device: *const hugebar_device,
    count: Option<&mut MaybeUninit<u32>>,
) -> c_int {
    handle::tell(count, device, |own| Ok(own.0.region_count()))
}

/// Queries a region. -ENOENT if the device does not have it, such as an absent BAR.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_device_region(
    device: *const hugebar_device,
    index: u32,
    region: Option<&mut MaybeUninit<hugebar_region>>,
) -> c_int {
    handle::tell(region, device, |device| {
        let own = self::region(&device.0, index)?;
        let (phys, phys_address) = match device.0.phys(&own) {
            Phys::Natural => (HUGEBAR_PHYS_NATURAL, 0),
            Phys::At(address) => (HUGEBAR_PHYS_AT, address),
            Phys::Unknown => (HUGEBAR_PHYS_UNKNOWN, 0),
        };
        let known = HUGEBAR_REGION_READ | HUGEBAR_REGION_WRITE | HUGEBAR_REGION_MMAP;
        Ok(hugebar_region {
            index,
            flags: own.flags().bits() & known,
            size: own.size(),
            fd_offset: own.offset(),
            phys,
            phys_address,
        })
    })
}

/// Returns the areas of a region that the driver allows to be mapped. Writes at most `room` of them to `areas`, which may be
/// NULL if `room` is 0, and to `count` how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_device_region_areas(
    device: *const hugebar_device,
    index: u32,
    areas: *mut hugebar_area,
    room: usize,
    count: Option<&mut MaybeUninit<usize>>,
) -> c_int {
    call(|| {
        let region = self::region(&handle::get(device)?.0, index)?;
        let all = region.layout().areas().iter();
        let all: Vec<hugebar_area> = all.map(|&area| area.into()).collect();
        // SAFETY: the caller's contract.
        unsafe { fill(&all, areas, room, count) }
    })
}

/// Finds the device's MSI-X table. -ENOENT if it has none.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_device_msix(
    device: *const hugebar_device,
    msix: Option<&mut MaybeUninit<hugebar_msix>>,
) -> c_int {
    handle::tell(msix, device, |device| {
        let none = || Failure::new(libc::ENOENT, "the device has no MSI-X table");
        let own = device.0.msix()?.ok_or_else(none)?;
        Ok(hugebar_msix {
            vectors: own.vectors.into(),
            table_bar: own.table_bar.into(),
            table: own.table.into(),
            pba_bar: own.pba_bar.into(),
            pba: own.pba.into(),
        })
    })
}

/// Reads from a region through the driver (`pread`), which returns an error where a mapping would raise SIGBUS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_device_region_read(
    device: *const hugebar_device,
    index: u32,
    offset: u64,
    bytes: *mut u8,
    count: usize,
) -> c_int {
    call(|| {
        let device = handle::get(device)?;
        // SAFETY: the caller's contract.
        let bytes = unsafe { buffer(bytes, count) }?;
        Ok(device.0.region_read(index, offset, bytes)?)
    })
}

/// Writes to a region through the driver (`pwrite`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_device_region_write(
    device: *const hugebar_device,
    index: u32,
    offset: u64,
    bytes: *const u8,
    count: usize,
) -> c_int {
    call(|| {
        let device = handle::get(device)?;
        // SAFETY: the caller's contract.
        let bytes = unsafe { array(bytes, count) }?;
        Ok(device.0.region_write(index, offset, bytes)?)
    })
}
