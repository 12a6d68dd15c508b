//! Guards of memory that is mapped for DMA.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use crate::error::{Error, ErrorKind, Result};
use crate::iommu::{AddressSpace, DmaAccess, Target};
use crate::mem::Memory;
use crate::sys::fork::{Process, this_process};
use crate::sys::process;

/// Memory that devices may be let reach.
///
/// # Safety
///
/// For as long as the owner lives, however it is moved:
/// * `[as_ptr(), as_ptr() + bytes())` stays mapped at the same addresses, readable and writable, and is nobody else's;
/// * it starts at a page and has whole pages;
/// * nothing in it is a Rust object, and safe code gets no reference into it, for devices change it at any time.
pub unsafe trait StableMemory {
    /// Where it starts.
    fn as_ptr(&self) -> NonNull<u8>;
    /// How many bytes it has.
    fn bytes(&self) -> u64;
}

// SAFETY: it owns its mapping for as long as it lives, and hands out a pointer alone.
unsafe impl StableMemory for Memory {
    fn as_ptr(&self) -> NonNull<u8> {
        Memory::as_ptr(self)
    }

    fn bytes(&self) -> u64 {
        Memory::bytes(self)
    }
}

/// Memory that somebody else answers for ([`AddressSpace::map_raw`]).
#[derive(Clone, Copy, Debug)]
pub struct RawMemory {
    start: NonNull<u8>,
    bytes: u64,
}

// SAFETY: it is a pointer and a length.
unsafe impl Send for RawMemory {}
// SAFETY: as above.
unsafe impl Sync for RawMemory {}

// SAFETY: it is made by `map_raw` alone, whose caller answers for all of it.
unsafe impl StableMemory for RawMemory {
    fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Memory and its mapping in an I/O address space. Dropping it unmaps first, and frees the memory then.
///
/// A child after fork neither unmaps nor frees anything.
pub struct DmaMapping<M: StableMemory> {
    space: AddressSpace,
    memory: ManuallyDrop<M>,
    iova: u64,
    process: Process,
}

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
    /// [`ErrorKind::OutOfMemory`] where there are no I/O addresses left, or the memory that may be locked is used up
    /// (`RLIMIT_MEMLOCK`). The memory is freed.
    pub fn map_owned<M: StableMemory>(
        &self,
        memory: M,
        access: DmaAccess,
    ) -> Result<DmaMapping<M>> {
        self.map_owned_below(memory, access, u64::MAX)
    }

    /// As [`AddressSpace::map_owned`], below an I/O address: for devices that reach fewer bits.
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
        let target = Target {
            memory: memory.as_ptr(),
            len: memory.bytes(),
            access,
            last: limit.saturating_sub(1),
        };
        check(&target)?;
        // SAFETY: the memory's own contract. The guard keeps it until it is unmapped, and for good if that fails.
        let iova = unsafe { self.map(&target) }?;
        Ok(DmaMapping {
            space: self.clone(),
            memory: ManuallyDrop::new(memory),
            iova,
            process: this_process(),
        })
    }

    /// Maps memory that the caller keeps, below an I/O address.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::map_owned`].
    ///
    /// # Safety
    ///
    /// The memory must be as [`StableMemory`] says until the guard was dropped, and for good if it cannot be unmapped then
    /// ([`DmaMapping::unmap`] tells).
    pub unsafe fn map_raw(
        &self,
        start: NonNull<u8>,
        bytes: u64,
        access: DmaAccess,
        limit: u64,
    ) -> Result<DmaMapping<RawMemory>> {
        self.map_owned_below(RawMemory { start, bytes }, access, limit)
    }
}

fn check(target: &Target) -> Result<()> {
    let page = process::page_size();
    let start = target.memory.addr().get() as u64;
    if target.len == 0 || target.len % page != 0 || start % page != 0 {
        let operation = format!(
            "{:#x} bytes at {start:#x} are no whole pages of {page} bytes",
            target.len
        );
        return Err(Error::new(ErrorKind::InvalidInput, operation));
    }
    Ok(())
}

impl<M: StableMemory> DmaMapping<M> {
    /// The I/O address that devices reach the memory at.
    pub fn iova(&self) -> u64 {
        self.iova
    }

    /// Where the memory starts in this process. A device may write to it at any time.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.memory.as_ptr()
    }

    /// How many bytes are mapped.
    pub fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// The address space.
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// Unmaps it and gives the memory back (`VFIO_IOMMU_UNMAP_DMA`, `IOMMU_IOAS_UNMAP`).
    ///
    /// # Errors
    ///
    /// Whatever the ioctl says. The memory stays then, for devices may reach it still.
    pub fn unmap(self) -> Result<M> {
        let mut own = ManuallyDrop::new(self);
        let unmapped = own.release();
        // SAFETY: it is not used again, for the guard itself is not dropped.
        drop(unsafe { std::ptr::read(&own.space) });
        // SAFETY: as above.
        let memory = unsafe { ManuallyDrop::take(&mut own.memory) };
        match unmapped {
            Ok(()) => Ok(memory),
            Err(error) => {
                std::mem::forget(memory);
                Err(error)
            }
        }
    }

    fn release(&mut self) -> Result<()> {
        if self.process != this_process() {
            let operation = "the memory is mapped by the process that this one was forked from";
            return Err(Error::new(ErrorKind::InvalidInput, operation));
        }
        self.space.unmap(self.iova, self.memory.bytes())
    }
}

impl<M: StableMemory> Drop for DmaMapping<M> {
    fn drop(&mut self) {
        if self.release().is_ok() {
            // SAFETY: no device reaches it any more, and it is not used again.
            unsafe { ManuallyDrop::drop(&mut self.memory) }
        }
    }
}

impl<M: StableMemory> fmt::Debug for DmaMapping<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaMapping")
            .field("iova", &format_args!("{:#x}", self.iova))
            .field("start", &self.as_ptr())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}
