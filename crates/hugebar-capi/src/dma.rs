//! I/O address spaces, and memory and BARs that devices reach.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use hugebar::dma::{DmaMapping, PeerMapping, RawDmaMapping};
use hugebar::iommu::{AddressSpace, DmaAccess};
use hugebar::leaf::{GIB, MIB};
use hugebar::mem::{self, HugePage, Memory};

use crate::argument::{fill, invalid};
use crate::device::hugebar_device;
use crate::error::{Failure, Result, call};
use crate::handle;
use crate::map::hugebar_mapping;

/// Devices may only read the memory.
pub const HUGEBAR_DMA_READ: u32 = 1;
/// Devices may read and write the memory.
pub const HUGEBAR_DMA_READ_WRITE: u32 = 3;

/// The I/O address space of a device.
pub struct hugebar_space(AddressSpace);

/// Memory, or a region of a device, that is mapped into an I/O address space.
pub struct hugebar_dma(Reached);

enum Reached {
    /// Memory of the library's.
    Owned(DmaMapping<Memory>),
    /// Memory of the caller's, by its address.
    Callers(RawDmaMapping, usize),
    /// A region of a device, and its length.
    Region(Mutex<PeerMapping>, u64),
}

/// A range of I/O addresses.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_iova_range {
    /// The first address.
    pub first: u64,
    /// The last address.
    pub last: u64,
}

/// Where something lies that is mapped into an I/O address space.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_dma_info {
    /// Its address in this process; NULL for a region of a device.
    pub address: *mut c_void,
    /// Its I/O address for devices.
    pub iova: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// The last I/O address that a caller allows.
fn below(limit: u64) -> u64 {
    match limit {
        0 => u64::MAX,
        limit => limit,
    }
}

/// Returns the device's I/O address space. It stays usable until it is closed, with or without the device. -ENOTSUP without
/// an IOMMU, and if other code has attached the device to an address space that is unknown here.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_device_space(
    device: *const hugebar_device,
    space: Option<&mut MaybeUninit<*mut hugebar_space>>,
) -> c_int {
    handle::give(space, || {
        Ok(hugebar_space(handle::get(device)?.0.address_space()?))
    })
}

/// Closes the handle of an address space. What is mapped into it stays.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_space_close(space: *mut hugebar_space) -> c_int {
    handle::close(space)
}

/// Returns the I/O addresses that can be mapped. Writes at most `room` ranges to `ranges`, which may be NULL if `room` is 0,
/// and to `count` how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_space_iova_ranges(
    space: *const hugebar_space,
    ranges: *mut hugebar_iova_range,
    room: usize,
    count: Option<&mut MaybeUninit<usize>>,
) -> c_int {
    call(|| {
        let own = handle::get(space)?.0.iova_ranges()?;
        let own = own.iter().map(|range| hugebar_iova_range {
            first: range.first,
            last: range.last,
        });
        let own: Vec<_> = own.collect();
        // SAFETY: the caller's contract.
        unsafe { fill(&own, ranges, room, count) }
    })
}

/// Allocates zeroed memory that devices can read and write, and maps it. `page` is 0 for normal pages, or the size of huge
/// pages that the administrator has reserved, 2 MiB or 1 GiB. `limit` is the end of the I/O addresses that the device
/// reaches, or 0 for all.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_dma_alloc(
    space: *const hugebar_space,
    size: u64,
    page: u64,
    limit: u64,
    dma: Option<&mut MaybeUninit<*mut hugebar_dma>>,
) -> c_int {
    const MIB_2: u64 = 2 * MIB;
    handle::give(dma, || {
        let space = handle::get(space)?;
        let memory = match page {
            0 => Memory::anonymous(size)?,
            MIB_2 => Memory::huge_pages(size, HugePage::Mib2)?,
            GIB => Memory::huge_pages(size, HugePage::Gib1)?,
            _ => return Err(invalid(format!("there are no huge pages of {page} bytes"))),
        };
        let access = DmaAccess::ReadWrite;
        let mapping = space.0.map_owned_below(memory, access, below(limit))?;
        Ok(hugebar_dma(Reached::Owned(mapping)))
    })
}

/// Maps memory of the caller's: whole pages, which must stay mapped where they are until `hugebar_dma_close` has returned 0,
/// and for good if it fails. `access` is `HUGEBAR_DMA_READ` or `HUGEBAR_DMA_READ_WRITE`, `limit` as for `hugebar_dma_alloc`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_dma_map(
    space: *const hugebar_space,
    memory: *mut c_void,
    size: u64,
    access: u32,
    limit: u64,
    dma: Option<&mut MaybeUninit<*mut hugebar_dma>>,
) -> c_int {
    handle::give(dma, || {
        let space = handle::get(space)?;
        let start = NonNull::new(memory.cast()).ok_or_else(|| invalid("the memory is NULL"))?;
        let access = match access {
            HUGEBAR_DMA_READ => DmaAccess::Read,
            HUGEBAR_DMA_READ_WRITE => DmaAccess::ReadWrite,
            _ => return Err(invalid(format!("{access:#x} is no access"))),
        };
        // SAFETY: the caller's contract.
        let mapping = unsafe { space.0.map_raw(start, size, access, below(limit)) };
        let address = memory.expose_provenance();
        Ok(hugebar_dma(Reached::Callers(mapping?, address)))
    })
}

/// Maps a region of a device for peer-to-peer DMA by the devices of an address space. `device` is the device of the
/// region, which may be in this address space or in another one. -ENOTSUP if the kernel cannot do that here. Holes of
/// the mapping are not mapped either. By iommufd it is lost when the device is reset or its memory decode is off:
/// `hugebar_dma_renew`.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_dma_map_region(
    space: *const hugebar_space,
    device: *const hugebar_device,
    mapping: *const hugebar_mapping,
    limit: u64,
    dma: Option<&mut MaybeUninit<*mut hugebar_dma>>,
) -> c_int {
    handle::give(dma, || {
        let (space, device) = (handle::get(space)?, handle::get(device)?);
        let mapping = handle::get(mapping)?;
        let bar = mapping.bar()?;
        let peer = space.0.map_bar_below(&device.0, bar, below(limit))?;
        let size = bar.region().size();
        Ok(hugebar_dma(Reached::Region(Mutex::new(peer), size)))
    })
}

/// Returns where the memory or region lies.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_dma_get_info(
    dma: *const hugebar_dma,
    info: Option<&mut MaybeUninit<hugebar_dma_info>>,
) -> c_int {
    handle::tell(info, dma, |own| {
        Ok(match &own.0 {
            Reached::Owned(own) => hugebar_dma_info {
                address: own.as_ptr().as_ptr().cast(),
                iova: own.iova(),
                size: own.bytes(),
            },
            Reached::Callers(own, address) => hugebar_dma_info {
                address: ptr::with_exposed_provenance_mut(*address),
                iova: own.iova(),
                size: own.bytes(),
            },
            Reached::Region(own, size) => hugebar_dma_info {
                address: ptr::null_mut(),
                iova: own.lock().unwrap_or_else(PoisonError::into_inner).iova(),
                size: *size,
            },
        })
    })
}

/// Maps a region again, at the same I/O address, after its device was reset or its memory decode was off. A mapping by
/// type1 was not lost, so that this does nothing. -ENODEV while memory decode is off, -ENOTSUP for memory, which is
/// never lost.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_dma_renew(dma: *const hugebar_dma) -> c_int {
    call(|| match &handle::get(dma)?.0 {
        Reached::Region(own, _) => {
            let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(own.renew()?)
        }
        Reached::Owned(_) | Reached::Callers(..) => {
            let message = "this is memory, which stays mapped";
            Err(Failure::new(libc::ENOTSUP, message))
        }
    })
}

/// Unmaps memory or a region from its address space, and frees the memory of `hugebar_dma_alloc`. On an error of the kernel
/// the handle is closed as well, but devices may still reach the memory, which is therefore kept. With -EBUSY another thread
/// uses the handle, which stays open.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_dma_close(dma: *mut hugebar_dma) -> c_int {
    call(|| -> Result<()> {
        match handle::take(dma)?.0 {
            Reached::Owned(own) => drop(own.unmap()?),
            Reached::Callers(own, _) => own.unmap()?,
            Reached::Region(own, _) => {
                let own = own.into_inner().unwrap_or_else(PoisonError::into_inner);
                own.unmap()?;
            }
        }
        Ok(())
    })
}

/// Orders reads of memory that a device writes: use it between seeing that the device is done and reading its data.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_dma_rmb() {
    mem::dma_rmb();
}

/// Orders writes: use it between filling in memory and telling the device to read it.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_dma_wmb() {
    mem::dma_wmb();
}
