//! Registers: words of a mapping that are checked once, and then read and written without checks.

use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use super::Mapping;
use super::mmio::{AccessError, Word};

/// Read and write.
#[derive(Clone, Copy, Debug)]
pub enum ReadWrite {}
/// Read only.
#[derive(Clone, Copy, Debug)]
pub enum ReadOnly {}
/// Write only.
#[derive(Clone, Copy, Debug)]
pub enum WriteOnly {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ReadWrite {}
    impl Sealed for super::ReadOnly {}
    impl Sealed for super::WriteOnly {}
}

/// Access that includes reading.
pub trait Readable: sealed::Sealed {}
impl Readable for ReadWrite {}
impl Readable for ReadOnly {}

/// Access that includes writing.
pub trait Writable: sealed::Sealed {}
impl Writable for ReadWrite {}
impl Writable for WriteOnly {}

/// A word of a borrowed mapping, at a fixed offset.
///
/// Its accesses are those of [`Mapping::read`] and [`Mapping::write`], without their checks. They raise the
/// same signals while memory decode is off.
///
/// # Invariants
///
/// The word lies in a mapped area, aligned, and the area is mapped for the access `A`, for `'a`.
pub struct Register<'a, W, A = ReadWrite> {
    word: NonNull<W>,
    mapping: PhantomData<(&'a Mapping, A)>,
}

// SAFETY: as for `Mapping`, which it borrows: single volatile accesses outside all Rust allocations.
unsafe impl<W: Word, A> Send for Register<'_, W, A> {}
// SAFETY: as above.
unsafe impl<W: Word, A> Sync for Register<'_, W, A> {}

impl<W, A> Clone for Register<'_, W, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W, A> Copy for Register<'_, W, A> {}

impl<W: Word, A: Readable> Register<'_, W, A> {
    /// Reads it: one volatile load.
    #[inline]
    pub fn read(&self) -> W {
        // SAFETY: by the type's invariants, and any bits are a `W`. Volatile, so it is read once and the compiler
        // assumes nothing about its value.
        unsafe { self.word.read_volatile() }.decode()
    }
}

impl<W: Word, A: Writable> Register<'_, W, A> {
    /// Writes it: one volatile store.
    #[inline]
    pub fn write(&self, value: W) {
        // SAFETY: by the type's invariants. No reference to the word exists anywhere: this crate makes none.
        unsafe { self.word.write_volatile(value.encode()) };
    }
}

impl<W, A> fmt::Debug for Register<'_, W, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Register").field(&self.word).finish()
    }
}

impl Mapping {
    /// The word at a region offset, for reading and writing.
    ///
    /// ```
    /// use hugebar::{layout::Layout, leaf::LeafSizes, mem::{MapOptions, Mapping, Window}};
    /// use hugebar::{phys::Phys, plan::{Placement, Plan}};
    /// # let size = 1 << 20;
    /// # let file = rustix::fs::memfd_create("bar", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    /// # rustix::fs::ftruncate(&file, size).unwrap();
    /// # let plan = Plan::new(&Layout::whole(size, 4096)?, Phys::Natural, &LeafSizes::X86_64, Placement::Congruent)?;
    /// # let mapping = Mapping::new(&file, 0, &plan, Window::reserve(&plan)?, MapOptions::default())?;
    /// let doorbell = mapping.register::<u32>(0x1000)?;
    /// doorbell.write(1);
    /// assert_eq!(doorbell.read(), 1);
    /// # Ok::<(), hugebar::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If it is misaligned, does not lie in a mapped area, or the region is not mapped for both.
    pub fn register<W: Word>(&self, offset: u64) -> Result<Register<'_, W>, AccessError> {
        self.readable_register::<W>(offset)?;
        let writable = self.writable_register::<W>(offset)?;
        Ok(Register {
            word: writable.word,
            mapping: PhantomData,
        })
    }

    /// The word at a region offset, for reading only.
    ///
    /// # Errors
    ///
    /// As [`Mapping::register`]; the region need not be mapped for writing.
    pub fn readable_register<W: Word>(
        &self,
        offset: u64,
    ) -> Result<Register<'_, W, ReadOnly>, AccessError> {
        if !self.options().read {
            return Err(AccessError::NotReadable);
        }
        Ok(Register {
            word: self.words(offset, 1)?,
            mapping: PhantomData,
        })
    }

    /// The word at a region offset, for writing only.
    ///
    /// # Errors
    ///
    /// As [`Mapping::register`]; the region need not be mapped for reading.
    pub fn writable_register<W: Word>(
        &self,
        offset: u64,
    ) -> Result<Register<'_, W, WriteOnly>, AccessError> {
        if !self.options().write {
            return Err(AccessError::NotWritable);
        }
        Ok(Register {
            word: self.words(offset, 1)?,
            mapping: PhantomData,
        })
    }
}

/// A register that shares ownership of its mapping, so that one struct can hold both.
#[derive(Clone, Debug)]
pub struct OwnedRegister<W> {
    register: Register<'static, W>,
    mapping: Arc<Mapping>,
}

impl<W: Word> OwnedRegister<W> {
    /// The word at a region offset of a shared mapping, for reading and writing.
    ///
    /// # Errors
    ///
    /// As [`Mapping::register`].
    pub fn new(mapping: &Arc<Mapping>, offset: u64) -> Result<Self, AccessError> {
        let word = mapping.register::<W>(offset)?.word;
        // The mapping does not change as long as this shares ownership: nothing changes the areas of a
        // shared mapping.
        Ok(Self {
            register: Register {
                word,
                mapping: PhantomData,
            },
            mapping: mapping.clone(),
        })
    }

    /// Reads it: one volatile load.
    #[inline]
    pub fn read(&self) -> W {
        self.register.read()
    }

    /// Writes it: one volatile store.
    #[inline]
    pub fn write(&self, value: W) {
        self.register.write(value);
    }

    /// The mapping that it is in.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }
}
