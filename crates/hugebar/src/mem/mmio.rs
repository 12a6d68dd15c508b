//! Access to mapped memory by offset: volatile, checked, never through a reference.

use std::fmt;
use std::ptr::NonNull;

use crate::error::{Error, ErrorKind};

use super::Mapping;

/// Why an access was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessError {
    /// It reaches beyond the region.
    OutOfRegion {
        /// Region offset of the access.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// It touches a part of the region that is not mapped.
    Hole {
        /// Region offset of the access.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// The offset is not a multiple of the word's size.
    Misaligned {
        /// Region offset of the access.
        offset: u64,
        /// Size of the word in bytes.
        size: u64,
    },
    /// The region is not mapped for reading.
    NotReadable,
    /// The region is not mapped for writing.
    NotWritable,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRegion { offset, len } => {
                write!(f, "{len} bytes at {offset:#x} reach beyond the region")
            }
            Self::Hole { offset, len } => {
                write!(
                    f,
                    "{len} bytes at {offset:#x} are not all in one mapped area"
                )
            }
            Self::Misaligned { offset, size } => {
                write!(f, "offset {offset:#x} is not a multiple of {size}")
            }
            Self::NotReadable => f.write_str("the region is not mapped for reading"),
            Self::NotWritable => f.write_str("the region is not mapped for writing"),
        }
    }
}

impl std::error::Error for AccessError {}

impl From<AccessError> for Error {
    fn from(error: AccessError) -> Self {
        Self::new(ErrorKind::InvalidInput, error.to_string())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A word that a device register can hold: `u8`, `u16`, `u32` or `u64`, little-endian in the device
/// as PCI requires.
pub trait Word: sealed::Sealed + Copy {
    /// Converts from the device's byte order to the processor's.
    fn decode(self) -> Self;
    /// Converts from the processor's byte order to the device's.
    fn encode(self) -> Self;
}

macro_rules! words {
    ($($word:ty),*) => {$(
        impl sealed::Sealed for $word {}
        impl Word for $word {
            fn decode(self) -> Self {
                Self::from_le(self)
            }
            fn encode(self) -> Self {
                self.to_le()
            }
        }
    )*};
}
words!(u8, u16, u32, u64);

impl Mapping {
    /// Reads the word at a region offset: one volatile load. For repeated accesses,
    /// [`Mapping::register`] checks the offset only once.
    ///
    /// Raises SIGBUS, which ends the process, if memory decode of the device is off at that moment, or the file is
    /// shorter than the region; [`crate::vfio::Device::region_read`] returns an error instead.
    pub fn read<W: Word>(&self, offset: u64) -> Result<W, AccessError> {
        Ok(self.readable_register(offset)?.read())
    }

    /// Writes the word at a region offset: one volatile store. Signals as for [`Mapping::read`].
    pub fn write<W: Word>(&self, offset: u64, value: W) -> Result<(), AccessError> {
        self.writable_register(offset)?.write(value);
        Ok(())
    }

    /// Reads adjacent words in ascending order, one volatile load each: never a `memcpy`, which may make accesses
    /// of other sizes that device memory does not support. Signals as for [`Mapping::read`].
    ///
    /// # Errors
    ///
    /// As [`Mapping::read`], for all of them together; none is read then.
    pub fn read_words<W: Word>(&self, offset: u64, words: &mut [W]) -> Result<(), AccessError> {
        if !self.options().read {
            return Err(AccessError::NotReadable);
        }
        let start = self.words::<W>(offset, words.len())?;
        for (index, word) in words.iter_mut().enumerate() {
            // SAFETY: `words` found all of them to lie in one mapped area.
            let place = unsafe { start.add(index) };
            // SAFETY: aligned, and mapped as long as `self` lives, for reading; any bits are a `W`.
            *word = unsafe { place.read_volatile() }.decode();
        }
        Ok(())
    }

    /// Writes adjacent words in ascending order, one volatile store each. Signals as for [`Mapping::read`].
    ///
    /// # Errors
    ///
    /// As [`Mapping::write`], for all of them together; none is written then.
    pub fn write_words<W: Word>(&self, offset: u64, words: &[W]) -> Result<(), AccessError> {
        if !self.options().write {
            return Err(AccessError::NotWritable);
        }
        let start = self.words::<W>(offset, words.len())?;
        for (index, word) in words.iter().enumerate() {
            // SAFETY: `words` found all of them to lie in one mapped area.
            let place = unsafe { start.add(index) };
            // SAFETY: aligned, and mapped as long as `self` lives, for writing. No reference to it exists
            // anywhere: this crate makes none.
            unsafe { place.write_volatile(word.encode()) };
        }
        Ok(())
    }

    /// The address of `count` words at a region offset, aligned, in one mapped area.
    pub(super) fn words<W: Word>(
        &self,
        offset: u64,
        count: usize,
    ) -> Result<NonNull<W>, AccessError> {
        let size = size_of::<W>() as u64;
        if offset % size != 0 {
            return Err(AccessError::Misaligned { offset, size });
        }
        let len = size.saturating_mul(count as u64);
        let start = self.pointer(offset, len)?.cast::<W>();
        debug_assert!(start.is_aligned(), "areas are page-aligned");
        Ok(start)
    }

    /// The address of `len` bytes at a region offset, which lie in one mapped area.
    ///
    /// Only this function decides whether an offset is valid. For whole pages, which may reach beyond the end of
    /// a region whose size is not page-aligned, use [`Mapping::span`].
    pub fn pointer(&self, offset: u64, len: u64) -> Result<NonNull<u8>, AccessError> {
        let end = offset
            .checked_add(len)
            .filter(|&end| end <= self.plan().layout().region_size())
            .ok_or(AccessError::OutOfRegion { offset, len })?;
        // Areas ascend, so only the last one that starts at or before the offset can contain it.
        let behind = self
            .areas()
            .partition_point(|mapped| mapped.area.offset <= offset);
        let mapped = behind.checked_sub(1).map(|index| &self.areas()[index]);
        mapped
            .filter(|mapped| end - mapped.area.offset <= mapped.area.size)
            .and_then(|mapped| {
                let distance = usize::try_from(offset - mapped.area.offset).ok()?;
                // SAFETY: the offset lies in the area, which is one mapping.
                Some(unsafe { mapped.start.add(distance) })
            })
            .ok_or(AccessError::Hole { offset, len })
    }

    /// [`Mapping::read`] of a byte.
    pub fn read_u8(&self, offset: u64) -> Result<u8, AccessError> {
        self.read(offset)
    }

    /// [`Mapping::read`] of 16 bits.
    pub fn read_u16(&self, offset: u64) -> Result<u16, AccessError> {
        self.read(offset)
    }

    /// [`Mapping::read`] of 32 bits.
    pub fn read_u32(&self, offset: u64) -> Result<u32, AccessError> {
        self.read(offset)
    }

    /// [`Mapping::read`] of 64 bits.
    pub fn read_u64(&self, offset: u64) -> Result<u64, AccessError> {
        self.read(offset)
    }

    /// [`Mapping::write`] of a byte.
    pub fn write_u8(&self, offset: u64, value: u8) -> Result<(), AccessError> {
        self.write(offset, value)
    }

    /// [`Mapping::write`] of 16 bits.
    pub fn write_u16(&self, offset: u64, value: u16) -> Result<(), AccessError> {
        self.write(offset, value)
    }

    /// [`Mapping::write`] of 32 bits.
    pub fn write_u32(&self, offset: u64, value: u32) -> Result<(), AccessError> {
        self.write(offset, value)
    }

    /// [`Mapping::write`] of 64 bits.
    pub fn write_u64(&self, offset: u64, value: u64) -> Result<(), AccessError> {
        self.write(offset, value)
    }
}
