//! Blocks: the pieces of a window, and the areas mapped in them.

use std::ptr::NonNull;

use crate::layout::Area;
use crate::sys::maps;

use super::leftovers::Signature;

/// Contiguous addresses for a part of the region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// The lowest address.
    pub(super) start: NonNull<u8>,
    /// Length in bytes.
    pub(super) len: usize,
    /// Region offset of the first byte.
    pub(super) origin: u64,
}

impl Block {
    pub(super) fn end(&self) -> usize {
        self.start.addr().get() + self.len
    }

    pub(super) fn holds(&self, other: &Block) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// The addresses from `from` to `to`, if there are any; both lie in the block.
    pub(super) fn part(&self, from: usize, to: usize) -> Option<Self> {
        let len = to.checked_sub(from).filter(|&len| len > 0)?;
        let distance = from - self.start.addr().get();
        Some(Self {
            // SAFETY: `from` lies in the block, which is one reservation.
            start: unsafe { self.start.add(distance) },
            len,
            origin: self.origin + distance as u64,
        })
    }

    /// The address of an area of the region, if the block contains the whole area.
    pub(super) fn at(&self, area: &Area) -> Option<NonNull<u8>> {
        let distance = area.offset.checked_sub(self.origin)?;
        let end = distance.checked_add(area.size)?;
        if end > self.len as u64 {
            return None;
        }
        // SAFETY: `distance` was found to lie in the block, which is one reservation.
        Some(unsafe { self.start.add(usize::try_from(distance).ok()?) })
    }
}

/// A mapped area.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapped {
    pub(super) block: Block,
    /// Tells it from another thread's mapping of the same range.
    pub(super) signature: Signature,
}

impl Mapped {
    /// Whether it is known to still exist.
    pub(super) fn is_there(&self) -> rustix::io::Result<bool> {
        let there = maps::look(self.block.start.addr().get(), self.block.len)?;
        Ok(self.signature.is(there))
    }
}
