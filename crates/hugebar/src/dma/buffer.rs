//! Buffers for devices.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::error::Result;
use crate::iommu::{AddressSpace, DmaAccess};
use crate::mem::{AccessError, Memory, Word};

use super::DmaMapping;

/// Zeroed memory that devices of an address space can read and write.
///
/// Accesses are volatile, because a device may change the memory at any time; [`crate::mem::dma_wmb`] and
/// [`crate::mem::dma_rmb`] order them with the device's. It can move to another thread, but volatile accesses
/// order nothing between threads, so two cannot use it at once.
#[derive(Debug)]
pub struct DmaBuffer {
    mapping: DmaMapping<Memory>,
    len: u64,
    of_one_thread: PhantomData<Cell<u8>>,
}

impl DmaBuffer {
    /// Allocates and maps a buffer of this many bytes, in whole pages of anonymous memory.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::map_owned`] and [`Memory::anonymous`].
    pub fn new(space: &AddressSpace, len: u64) -> Result<Self> {
        Self::below(space, len, u64::MAX)
    }

    /// The same with I/O addresses below a limit, for devices that reach fewer than 64 bits.
    ///
    /// # Errors
    ///
    /// As [`DmaBuffer::new`].
    pub fn below(space: &AddressSpace, len: u64, limit: u64) -> Result<Self> {
        let memory = Memory::anonymous(len)?;
        let mapping = space.map_owned_below(memory, DmaAccess::ReadWrite, limit)?;
        Ok(Self {
            mapping,
            len,
            of_one_thread: PhantomData,
        })
    }

    /// Memory of another kind that is mapped already: of huge pages, say, or shared with other processes.
    pub fn of(mapping: DmaMapping<Memory>) -> Self {
        Self {
            len: mapping.bytes(),
            mapping,
            of_one_thread: PhantomData,
        }
    }

    /// Its I/O address for devices.
    pub fn iova(&self) -> u64 {
        self.mapping.iova()
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.len
    }

    /// Its address in this process.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.mapping.as_ptr()
    }

    /// The pointer to `len` bytes at an offset that is a multiple of `align`.
    fn at(&self, offset: u64, len: usize, align: usize) -> Result<NonNull<u8>, AccessError> {
        let (len, align) = (len as u64, align as u64);
        if offset % align != 0 {
            return Err(AccessError::Misaligned {
                offset,
                size: align,
            });
        }
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        match usize::try_from(offset) {
            // SAFETY: the offset lies within the memory, or at its end.
            Ok(offset) if inside => Ok(unsafe { self.as_ptr().add(offset) }),
            _ => Err(AccessError::OutOfRegion { offset, len }),
        }
    }

    /// Reads the little-endian word at an offset: one volatile load.
    ///
    /// # Errors
    ///
    /// [`AccessError`] beyond the end, or if the offset is not a multiple of the word's size.
    pub fn read<W: Word>(&self, offset: u64) -> Result<W, AccessError> {
        let place = self.at(offset, size_of::<W>(), size_of::<W>())?.cast::<W>();
        // SAFETY: the word lies within the memory, aligned, and any bytes are one.
        Ok(unsafe { place.read_volatile() }.decode())
    }

    /// Writes the little-endian word at an offset: one volatile store.
    ///
    /// # Errors
    ///
    /// As [`DmaBuffer::read`].
    pub fn write<W: Word>(&self, offset: u64, value: W) -> Result<(), AccessError> {
        let place = self.at(offset, size_of::<W>(), size_of::<W>())?.cast::<W>();
        // SAFETY: the word lies within the memory, aligned.
        unsafe { place.write_volatile(value.encode()) };
        Ok(())
    }

    /// Copies bytes into it.
    ///
    /// # Errors
    ///
    /// [`AccessError`] beyond the end; nothing is copied then.
    pub fn copy_from(&self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let place = self.at(offset, bytes.len(), 1)?;
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: all of the bytes lie within the memory.
            let place = unsafe { place.add(index) };
            // SAFETY: as above.
            unsafe { place.write_volatile(*byte) };
        }
        Ok(())
    }

    /// Copies bytes out of it.
    ///
    /// # Errors
    ///
    /// As [`DmaBuffer::copy_from`].
    pub fn copy_to(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        let place = self.at(offset, bytes.len(), 1)?;
        for (index, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: all of the bytes lie within the memory.
            let place = unsafe { place.add(index) };
            // SAFETY: as above.
            *byte = unsafe { place.read_volatile() };
        }
        Ok(())
    }

    /// Its bytes.
    ///
    /// # Safety
    ///
    /// No device, and nothing else of this process, may write to it while the slice is in use.
    pub unsafe fn as_slice(&self) -> &[u8] {
        let len = usize::try_from(self.len).unwrap_or(0);
        // SAFETY: that much memory is mapped for as long as the buffer lives; the caller's contract.
        unsafe { std::slice::from_raw_parts(self.as_ptr().as_ptr(), len) }
    }

    /// Its bytes, mutable.
    ///
    /// # Safety
    ///
    /// No device may read or write it while the slice is in use.
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        let len = usize::try_from(self.len).unwrap_or(0);
        // SAFETY: as for `as_slice`; the buffer is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr().as_ptr(), len) }
    }
}
