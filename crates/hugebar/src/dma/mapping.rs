//! Guards for memory that is mapped for DMA.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

use crate::error::{Error, ErrorKind, Result};
use crate::iommu::{AddressSpace, DmaAccess, Room, Source};
use crate::mem::Memory;
use crate::sys::fork::{Process, this_process};
use crate::sys::process;

/// Memory that may be mapped for devices.
///
/// # Safety
///
/// For as long as the owner is not dropped, wherever it is moved, and for good if it never is:
/// * `[as_ptr(), as_ptr() + bytes())` stays mapped at the same addresses, readable and writable, and nobody else unmaps
///   it, maps anything over it or shrinks its file;
/// * it starts at a page and has whole pages;
/// * nothing in it is a Rust object, and safe code gets no reference into it, for devices change it at any time.
pub unsafe trait StableMemory: 'static {
    /// Its address.
    fn as_ptr(&self) -> NonNull<u8>;
    /// How many bytes it has.
    fn bytes(&self) -> u64;
}

// SAFETY: it owns its mapping for as long as it lives, and hands out only a pointer.
unsafe impl StableMemory for Memory {
    fn as_ptr(&self) -> NonNull<u8> {
        Memory::as_ptr(self)
    }

    fn bytes(&self) -> u64 {
        Memory::bytes(self)
    }
}

/// A mapping's place in an address space.
struct Place {
    space: AddressSpace,
    iova: u64,
    bytes: u64,
    process: Process,
}

impl Place {
    /// Maps memory below an I/O address.
    ///
    /// # Safety
    ///
    /// As for [`AddressSpace::map_at`], until [`Place::unmap`] has succeeded.
    unsafe fn map(
        space: &AddressSpace,
        memory: NonNull<u8>,
        bytes: u64,
        access: DmaAccess,
        limit: u64,
    ) -> Result<Self> {
        let page = process::page_size();
        let start = memory.addr().get() as u64;
        if bytes == 0 || bytes % page != 0 || start % page != 0 {
            let operation =
                format!("{bytes:#x} bytes at {start:#x} are no whole pages of {page} bytes");
            return Err(Error::new(ErrorKind::InvalidInput, operation));
        }
        let room = Room {
            len: bytes,
            congruent_with: start,
            last: limit.saturating_sub(1),
        };
        let source = Source::Memory(memory);
        let iova = space.place(&room, |iova| {
            // SAFETY: the caller's contract.
            unsafe { space.map_at(source, bytes, access, iova) }
        })?;
        Ok(Self {
            iova,
            space: space.clone(),
            bytes,
            process: this_process(),
        })
    }

    /// Unmaps once, and not in a child after fork, because the mapping is its parent's.
    fn unmap(&mut self) -> Result<()> {
        if self.process != this_process() {
            let operation = "the memory is mapped by the process that this one was forked from";
            return Err(Error::new(ErrorKind::InvalidInput, operation));
        }
        self.space.unmap(self.iova, self.bytes)
    }
}

/// Memory and its mapping in an I/O address space. Dropping it first unmaps, then frees the memory.
///
/// A child after fork neither unmaps nor frees anything.
pub struct DmaMapping<M: StableMemory> {
    place: Place,
    memory: ManuallyDrop<M>,
}

/// A mapping of memory for which the caller is responsible ([`AddressSpace::map_raw`]). Dropping it unmaps.
pub struct RawDmaMapping(Place);

impl AddressSpace {
    /// Maps memory for DMA and takes it into the guard (`VFIO_IOMMU_MAP_DMA`, `IOMMU_IOAS_MAP`). Its I/O address is
    /// congruent with its own, for the largest pages of the IOMMU that it has room for, and above 4 GiB where there
    /// are such.
    ///
    /// ```no_run
    /// use hugebar::iommu::DmaAccess;
    /// use hugebar::mem::{HugePage, Memory};
    /// use hugebar::vfio::Device;
    ///
    /// let device = Device::open("0000:01:00.0".parse()?)?;
    /// let memory = Memory::huge_pages(64 << 20, HugePage::Mib2)?;
    /// let queue = device.address_space()?.map_owned(memory, DmaAccess::ReadWrite)?;
    /// println!("the device reaches it at {:#x}", queue.iova());
    /// # Ok::<(), hugebar::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] where there are no I/O addresses left, the container has no mappings left
    /// ([`AddressSpace::mappings_left`]), or the memory that may be locked is used up (`RLIMIT_MEMLOCK`): on type1 that
    /// is found before anything is locked ([`AddressSpace::lockable`]). The memory is freed.
    pub fn map_owned<M: StableMemory>(
        &self,
        memory: M,
        access: DmaAccess,
    ) -> Result<DmaMapping<M>> {
        self.map_owned_below(memory, access, u64::MAX)
    }

    /// As [`AddressSpace::map_owned`], below an I/O address, for devices that reach fewer bits.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::map_owned`].
    pub fn map_owned_below<M: StableMemory>(
        &self,
        memory: M,
        access: DmaAccess,
        limit: u64,
    ) -> Result<DmaMapping<M>> {
        let (start, bytes) = (memory.as_ptr(), memory.bytes());
        self.check_lockable(bytes)?;
        // SAFETY: the memory's own contract. The guard keeps it until it is unmapped, and for good if that fails.
        let place = unsafe { Place::map(self, start, bytes, access, limit) }?;
        Ok(DmaMapping {
            place,
            memory: ManuallyDrop::new(memory),
        })
    }

    /// Maps memory that the caller keeps (`VFIO_IOMMU_MAP_DMA`, `IOMMU_IOAS_MAP`), below an I/O address.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::map_owned`].
    ///
    /// # Safety
    ///
    /// The memory must meet the contract of [`StableMemory`] until the mapping is dropped, and for good if it cannot be
    /// unmapped then ([`RawDmaMapping::unmap`] reports that).
    pub unsafe fn map_raw(
        &self,
        start: NonNull<u8>,
        bytes: u64,
        access: DmaAccess,
        limit: u64,
    ) -> Result<RawDmaMapping> {
        // SAFETY: the caller's contract.
        let place = unsafe { Place::map(self, start, bytes, access, limit) }?;
        Ok(RawDmaMapping(place))
    }
}

impl RawDmaMapping {
    /// The memory's I/O address for devices.
    pub fn iova(&self) -> u64 {
        self.0.iova
    }

    /// How many bytes are mapped.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Unmaps it (`VFIO_IOMMU_UNMAP_DMA`, `IOMMU_IOAS_UNMAP`).
    ///
    /// # Errors
    ///
    /// Those of the ioctl. Devices may then still reach the memory.
    pub fn unmap(self) -> Result<()> {
        let mut own = ManuallyDrop::new(self);
        let unmapped = own.0.unmap();
        // SAFETY: it is not used again, because the mapping itself is not dropped.
        drop(unsafe { ptr::read(&own.0.space) });
        unmapped
    }
}

impl Drop for RawDmaMapping {
    fn drop(&mut self) {
        // Callers that need the result use `unmap`.
        let _ = self.0.unmap();
    }
}

impl<M: StableMemory> DmaMapping<M> {
    /// The memory's I/O address for devices.
    pub fn iova(&self) -> u64 {
        self.place.iova
    }

    /// The memory's address in this process. A device may write to it at any time.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.memory.as_ptr()
    }

    /// How many bytes are mapped.
    pub fn bytes(&self) -> u64 {
        self.place.bytes
    }

    /// Unmaps it and returns the memory (`VFIO_IOMMU_UNMAP_DMA`, `IOMMU_IOAS_UNMAP`).
    ///
    /// # Errors
    ///
    /// Those of the ioctl. The memory then stays, because devices may still reach it.
    pub fn unmap(self) -> Result<M> {
        let mut own = ManuallyDrop::new(self);
        let unmapped = own.place.unmap();
        // SAFETY: it is not used again, because the guard itself is not dropped.
        drop(unsafe { ptr::read(&own.place.space) });
        unmapped?;
        // SAFETY: as above.
        Ok(unsafe { ManuallyDrop::take(&mut own.memory) })
    }
}

impl<M: StableMemory> Drop for DmaMapping<M> {
    fn drop(&mut self) {
        if self.place.unmap().is_ok() {
            // SAFETY: no device reaches it any more, and it is not used again.
            unsafe { ManuallyDrop::drop(&mut self.memory) }
        }
    }
}

impl<M: StableMemory> fmt::Debug for DmaMapping<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaMapping")
            .field("iova", &format_args!("{:#x}", self.iova()))
            .field("start", &self.as_ptr())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RawDmaMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawDmaMapping")
            .field("iova", &format_args!("{:#x}", self.iova()))
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}
