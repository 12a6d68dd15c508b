//! Access to mapped registers: volatile, checked, never through a reference.

use std::fmt;
use std::ptr::NonNull;

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
    /// The offset is no multiple of the word's size.
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
                write!(f, "offset {offset:#x} is no multiple of {size}")
            }
            Self::NotReadable => f.write_str("the region is not mapped for reading"),
            Self::NotWritable => f.write_str("the region is not mapped for writing"),
        }
    }
}

impl std::error::Error for AccessError {}

mod sealed {
    pub trait Sealed {}
}

/// A word that a device register can hold: `u8`, `u16`, `u32` or `u64`, little-endian in the device
/// as PCI has it.
pub trait Word: sealed::Sealed + Copy {
    /// From the byte order of the device to that of the processor.
    fn decode(self) -> Self;
    /// From the byte order of the processor to that of the device.
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
    /// Reads the word at a region offset: one volatile load.
    ///
    /// Ends the process by SIGBUS if memory decode of the device is off at that moment, or the file is
    /// shorter than the region; reading by [`crate::vfio::Device::region_read`] is an error instead.
    pub fn read<W: Word>(&self, offset: u64) -> Result<W, AccessError> {
        if !self.options().read {
            return Err(AccessError::NotReadable);
        }
        let register = self.register::<W>(offset)?;
        // SAFETY: `register` found the word to lie in a mapped area, aligned. The area is mapped as
        // long as `self` lives, for reading, and any bits are a `W`. Volatile: it is read once, and
        // nothing is assumed about its value.
        Ok(unsafe { register.read_volatile() }.decode())
    }

    /// Writes the word at a region offset: one volatile store. Signals as for [`Mapping::read`].
    pub fn write<W: Word>(&self, offset: u64, value: W) -> Result<(), AccessError> {
        if !self.options().write {
            return Err(AccessError::NotWritable);
        }
        let register = self.register::<W>(offset)?;
        // SAFETY: as for `read`, and the area is mapped for writing. No reference to it exists
        // anywhere: this crate makes none.
        unsafe { register.write_volatile(value.encode()) };
        Ok(())
    }

    fn register<W: Word>(&self, offset: u64) -> Result<NonNull<W>, AccessError> {
        let size = size_of::<W>() as u64;
        if offset % size != 0 {
            return Err(AccessError::Misaligned { offset, size });
        }
        let register = self.pointer(offset, size)?.cast::<W>();
        debug_assert!(register.is_aligned(), "areas start at pages of the machine");
        Ok(register)
    }

    /// The address of `len` bytes at a region offset, which lie in one mapped area.
    ///
    /// The one place that decides whether an offset is valid.
    pub fn pointer(&self, offset: u64, len: u64) -> Result<NonNull<u8>, AccessError> {
        let end = offset
            .checked_add(len)
            .filter(|&end| end <= self.plan().layout().region_size())
            .ok_or(AccessError::OutOfRegion { offset, len })?;
        // Areas ascend: only the last one that starts at or before the offset can hold it.
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
