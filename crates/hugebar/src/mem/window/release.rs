//! Gives addresses back, even if the kernel refuses calls at that moment. Only errors allocate.

use std::ptr::NonNull;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::fork::this_process;
use crate::sys::maps::{self, There};
use crate::sys::mm::{self, Existing};

use super::block::{Block, Mapped};
use super::leftovers::{self, Claim, Signature};
use super::{Owner, Window};

impl Window {
    /// Replaces every mapped area by a reservation (`mmap`).
    pub(in crate::mem) fn clear(&mut self) -> Result<()> {
        self.check_process()?;
        if *self.pinned.get_mut() {
            let operation = "the IOMMU still refers to the mapping";
            return Err(Error::new(ErrorKind::Busy, operation));
        }
        let cleared = self.clear_all();
        cleared.map_err(|errno| Error::call("mmap", errno))
    }

    /// As [`Window::clear`], as far as possible. Allocates nothing, because memory may be exhausted.
    fn clear_all(&mut self) -> rustix::io::Result<()> {
        let mut result = Ok(());
        for area in std::mem::take(&mut self.mapped) {
            let Block { start, len, .. } = area.block;
            // SAFETY: the area is whole, so no leaf is split, and belongs to the window, whose
            // owner no longer uses it.
            if let Err(errno) = unsafe { mm::reserve_at(start, len, Existing::Replace) } {
                self.remove(&area);
                result = Err(errno);
            }
        }
        result
    }

    /// Unmaps an area that could not be replaced by a reservation: at `vm.max_map_count` the kernel refuses
    /// the replacement and leaves the area as it was. Unmapping needs no new entry.
    ///
    /// But a failed `MAP_FIXED` can also have left a gap, which another thread may own by now. So the area
    /// is unmapped only if it is known to still exist, and remembered if that is unknown.
    fn remove(&mut self, area: &Mapped) {
        let Block { start, len, .. } = area.block;
        let gone = match area.is_there() {
            // SAFETY: the whole area was just found to exist, so it belongs to the window.
            Ok(true) => unsafe { mm::unmap(start, len) }.is_ok(),
            Ok(false) => true,
            Err(_) => false,
        };
        if !gone && self.owner == Owner::Window {
            let claim = Claim::File(area.signature);
            self.room.remember(start, len, claim);
            self.forget(start, len);
            return;
        }
        self.heal(start, len, area.signature);
    }

    /// Closes a gap that a failed `MAP_FIXED` may have left, by reserving it again if it is still
    /// free. Anything else there, the old content or another thread's, is left alone. It no longer belongs to
    /// the window, and in an arena nothing may be placed over it until it is known what it is.
    pub(super) fn heal(&mut self, start: NonNull<u8>, len: usize, signature: Signature) {
        // SAFETY: replaces nothing.
        if unsafe { mm::reserve_at(start, len, Existing::Keep) }.is_ok() {
            return;
        }
        match self.owner {
            Owner::Window => self.forget(start, len),
            Owner::Arena => {
                let claim = match maps::look(start.addr().get(), len) {
                    Ok(There::Reserved) => return,
                    Ok(There::Nothing | There::Other) => Claim::Occupied,
                    Ok(There::Shared(_)) | Err(_) => Claim::Arena(signature),
                };
                self.room.remember(start, len, claim);
            }
        }
    }

    /// Gives up the ownership of `[start, start + len)` without unmapping it. Allocates nothing.
    pub(super) fn forget(&mut self, start: NonNull<u8>, len: usize) {
        let (low, high) = (start.addr().get(), start.addr().get() + len);
        let mut index = 0;
        while let Some(&block) = self.blocks.get(index) {
            let (first, end) = (block.start.addr().get(), block.end());
            let left = block.part(first, end.min(low));
            let right = block.part(first.max(high), end);
            match (left, right) {
                (Some(left), Some(right)) => {
                    self.blocks[index] = left;
                    self.blocks.insert(index + 1, right);
                    index += 2;
                }
                (None, None) => drop(self.blocks.remove(index)),
                (Some(part), None) | (None, Some(part)) => {
                    self.blocks[index] = part;
                    index += 1;
                }
            }
        }
    }

    /// Unmaps the addresses that the window owns (`munmap`). Allocates nothing.
    fn unmap_all(&mut self) {
        for index in (0..self.blocks.len()).rev() {
            let block = self.blocks[index];
            // SAFETY: the block is ours alone, and no longer used. Its edges are those of
            // reservations or of whole areas.
            if unsafe { mm::unmap(block.start, block.len) }.is_ok() {
                self.blocks.remove(index);
            }
        }
        // At `vm.max_map_count` a reservation that the kernel has merged with another cannot be cut out.
        // Areas need no cut.
        for area in std::mem::take(&mut self.mapped) {
            let Block { start, len, .. } = area.block;
            if !self.blocks.iter().any(|block| block.holds(&area.block)) {
                continue;
            }
            // SAFETY: as above, and only other areas of the block are unmapped so far.
            if unsafe { mm::unmap(start, len) }.is_err() {
                self.room.remember(start, len, Claim::Ours);
            }
            self.forget(start, len);
        }
        for block in std::mem::take(&mut self.blocks) {
            self.room.remember(block.start, block.len, Claim::Ours);
        }
    }

    /// Leaves the addresses as they are. Nothing is ever placed over them.
    fn leave(&mut self) {
        if self.owner == Owner::Arena {
            for area in std::mem::take(&mut self.mapped) {
                let Block { start, len, .. } = area.block;
                self.room.remember(start, len, Claim::Occupied);
            }
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if self.process != this_process() {
            return;
        }
        // Failures are remembered.
        match self.owner {
            _ if *self.pinned.get_mut() => self.leave(),
            Owner::Arena => drop(self.clear_all()),
            Owner::Window => self.unmap_all(),
        }
        self.room.give_back();
        leftovers::retry();
    }
}
