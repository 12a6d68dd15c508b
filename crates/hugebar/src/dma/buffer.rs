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

    /// Copies bytes into it, by words of 8 bytes where they are aligned.
    ///
    /// # Errors
    ///
    /// [`AccessError`] beyond the end; nothing is copied then.
    pub fn copy_from(&self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let place = self.at(offset, bytes.len(), 1)?;
        // SAFETY: all of the bytes lie within the memory.
        unsafe { write(place, bytes) };
        Ok(())
    }

    /// Copies bytes out of it, by words of 8 bytes where they are aligned.
    ///
    /// # Errors
    ///
    /// As [`DmaBuffer::copy_from`].
    pub fn copy_to(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        let place = self.at(offset, bytes.len(), 1)?;
        // SAFETY: all of the bytes lie within the memory.
        unsafe { read(place, bytes) };
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

const WORD: usize = size_of::<u64>();

/// How many bytes precede the next word.
fn before_word(place: NonNull<u8>) -> usize {
    place.addr().get().wrapping_neg() % WORD
}

/// Copies bytes to a place.
///
/// # Safety
///
/// There must be room for all of them.
unsafe fn write(mut place: NonNull<u8>, bytes: &[u8]) {
    let (first, rest) = bytes.split_at(before_word(place).min(bytes.len()));
    for byte in first {
        // SAFETY: the caller's contract.
        place = unsafe { put(place, *byte) };
    }
    let words = rest.chunks_exact(WORD);
    let last = words.remainder();
    for word in words {
        let word = word.first_chunk().copied().map_or(0, u64::from_ne_bytes);
        // SAFETY: as above, and these are aligned.
        place = unsafe { put(place, word) };
    }
    for byte in last {
        // SAFETY: as above.
        place = unsafe { put(place, *byte) };
    }
}

/// Copies bytes from a place.
///
/// # Safety
///
/// There must be as many.
unsafe fn read(mut place: NonNull<u8>, bytes: &mut [u8]) {
    let first = before_word(place).min(bytes.len());
    let (first, rest) = bytes.split_at_mut(first);
    for byte in first {
        // SAFETY: the caller's contract.
        (*byte, place) = unsafe { get(place) };
    }
    let mut words = rest.chunks_exact_mut(WORD);
    for own in &mut words {
        let word: u64;
        // SAFETY: as above, and these are aligned.
        (word, place) = unsafe { get(place) };
        own.copy_from_slice(&word.to_ne_bytes());
    }
    for byte in words.into_remainder() {
        // SAFETY: as above.
        (*byte, place) = unsafe { get(place) };
    }
}

/// Writes a value, and returns the place behind it.
///
/// # Safety
///
/// It must lie within the memory, aligned.
unsafe fn put<T>(place: NonNull<u8>, value: T) -> NonNull<u8> {
    // SAFETY: the caller's contract.
    unsafe { place.cast::<T>().write_volatile(value) };
    // SAFETY: this is within the memory, or its end.
    unsafe { place.add(size_of::<T>()) }
}

/// Reads a value, and returns the place behind it.
///
/// # Safety
///
/// As [`put`]; any bytes must be a value.
unsafe fn get<T>(place: NonNull<u8>) -> (T, NonNull<u8>) {
    // SAFETY: the caller's contract.
    let value = unsafe { place.cast::<T>().read_volatile() };
    // SAFETY: this is within the memory, or its end.
    (value, unsafe { place.add(size_of::<T>()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_copied_at_every_alignment() {
        let bytes: Vec<u8> = (1..=40).collect();
        for start in 0..WORD {
            for len in 0..=bytes.len() {
                let mut memory = [0_u64; 8];
                let place = NonNull::from(&mut memory).cast::<u8>();
                // SAFETY: it lies within the memory.
                let place = unsafe { place.add(start) };
                // SAFETY: there are 64 bytes.
                unsafe { write(place, &bytes[..len]) };
                let mut back = vec![0; len];
                // SAFETY: as above.
                unsafe { read(place, &mut back) };
                assert_eq!(back, bytes[..len], "{start} {len}");
                let all: Vec<u8> = memory.iter().flat_map(|word| word.to_ne_bytes()).collect();
                assert_eq!(all[start..start + len], bytes[..len]);
                let others = all[..start].iter().chain(&all[start + len..]);
                assert!(others.copied().all(|byte| byte == 0), "{start} {len}");
            }
        }
    }
}
