//! Leftovers: addresses that could not be unmapped when they should have been, remembered until they can.
//!
//! At `vm.max_map_count` the kernel may refuse to replace a mapping by a reservation, or to cut a reservation out
//! of its neighbours. A mapping that is left in an arena must not be mapped over: with a 1 GiB leaf in it
//! the kernel (6.12 to 7.3) oopses, and an apparent hole would be the device. So it is remembered here.
//! Mapping allocates the room: remembering needs no memory, no descriptor and no `/proc`.

use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sys::fork::{Process, this_process};
use crate::sys::maps::{self, Backing, There};
use crate::sys::mm::{self, Existing};

/// Tells a mapping of ours from another thread's of the same range.
#[derive(Clone, Copy, Debug)]
pub(in crate::mem) struct Signature {
    pub(in crate::mem) file: Backing,
    /// The physical address of the first byte, if known: before Linux 6.10 VFIO replaces the file
    /// offset by it (`vfio_pci_core_mmap`).
    pub(in crate::mem) physical: Option<u64>,
}

impl Signature {
    /// Whether the existing mapping is of the same file and offset.
    pub(in crate::mem) fn is(&self, there: There) -> bool {
        let There::Shared(found) = there else {
            return false;
        };
        let file = self.file;
        let same = (found.device, found.inode) == (file.device, file.inode);
        same && (found.offset == file.offset || Some(found.offset) == self.physical)
    }
}

/// Who owns a range that was left behind.
#[derive(Clone, Copy, Debug)]
pub(in crate::mem) enum Claim {
    /// Ours, whatever is mapped there.
    Ours,
    /// Ours if this is still mapped there; otherwise taken by another thread.
    File(Signature),
    /// In the caller's arena: this may still be mapped there, or something unknown.
    Arena(Signature),
    /// In the caller's arena, but not free: the kernel left a gap that another thread may have taken, or
    /// the IOMMU still refers to what is there.
    Occupied,
}

impl Claim {
    fn is_in_arena(self) -> bool {
        matches!(self, Self::Arena(_) | Self::Occupied)
    }
}

#[derive(Clone, Copy, Debug)]
struct Leftover {
    start: NonNull<u8>,
    len: usize,
    claim: Claim,
    /// The process: a child after fork has the list, but not the mappings.
    process: Process,
}

// SAFETY: a range of addresses is not tied to a thread.
unsafe impl Send for Leftover {}

/// # Invariants
///
/// `ranges` has room for `promised` more.
struct Leftovers {
    ranges: Vec<Leftover>,
    promised: usize,
}

static LEFTOVERS: Mutex<Leftovers> = Mutex::new(Leftovers {
    ranges: Vec::new(),
    promised: 0,
});

fn all() -> MutexGuard<'static, Leftovers> {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Permission to remember this many ranges, for which there is room.
#[derive(Debug, Default)]
pub(in crate::mem) struct Room(usize);

impl Room {
    /// Makes room for `count` more.
    pub(in crate::mem) fn extend(&mut self, count: usize) -> Result<()> {
        let mut all = all();
        let promised = all.promised.saturating_add(count);
        let made = all.ranges.try_reserve(promised);
        made.map_err(|_| Error::call("allocating a list of addresses", Errno::NOMEM))?;
        all.promised = promised;
        self.0 += count;
        Ok(())
    }

    /// Remembers a range, which takes one place.
    pub(in crate::mem) fn remember(&mut self, start: NonNull<u8>, len: usize, claim: Claim) {
        debug_assert!(self.0 > 0, "mapping made room");
        let taken = self.0.min(1);
        self.0 -= taken;
        let mut all = all();
        all.promised -= taken;
        all.ranges.push(Leftover {
            start,
            len,
            claim,
            process: this_process(),
        });
    }

    /// Gives back unused room. Not done by `drop`, because in a child after fork the list may stay locked for good by
    /// another thread of the parent.
    pub(in crate::mem) fn give_back(&mut self) {
        all().promised -= std::mem::take(&mut self.0);
    }
}

/// Tries again to unmap the leftovers.
pub(in crate::mem) fn retry() {
    let process = this_process();
    // A parent's leftovers belong to the parent.
    all()
        .ranges
        .retain_mut(|leftover| leftover.process == process && !leftover.resolve());
}

/// Tries again to unmap the leftovers in `[start, end)` of an arena whose owner has just promised to own all of it,
/// mapped.
pub(in crate::mem) fn retry_in_arena(start: u64, end: u64) {
    retry();
    all().ranges.retain(|leftover| {
        let (low, high) = leftover.range();
        let inside = start <= low && high <= end;
        !(inside && leftover.is_reserved())
    });
}

/// The end of the first leftover that `[start, end)` overlaps.
pub(in crate::mem) fn overlapping(start: u64, end: u64) -> Option<u64> {
    let ranges = &all().ranges;
    let found = ranges.iter().find(|leftover| {
        let (low, high) = leftover.range();
        low < end && start < high
    });
    found.map(|leftover| leftover.range().1)
}

/// Notes that the kernel has handed out these addresses as free, so nothing of ours is left there.
pub(in crate::mem) fn taken(start: NonNull<u8>, len: usize) {
    let start = start.addr().get() as u64;
    let end = start + len as u64;
    all().ranges.retain(|leftover| {
        let (low, high) = leftover.range();
        // No part of an arena is free while its owner has it.
        end <= low || high <= start || leftover.claim.is_in_arena()
    });
}

/// Tries again (`munmap`) to free address ranges that could not be unmapped when a mapping or a window
/// was dropped, and returns those that remain, as start and length in bytes.
///
/// There are none, unless the kernel had no entry left for another mapping at that moment
/// (`vm.max_map_count`) or no memory. Parts of a device may still be mapped there. [`crate::mem::Window::within`]
/// keeps out of them, and so must the owner of an arena: mapping over a part of one, or unmapping a part, can
/// crash the kernel (6.12 to 7.3).
pub fn leftovers() -> Vec<(NonNull<u8>, usize)> {
    retry();
    let all = all();
    all.ranges
        .iter()
        .map(|left| (left.start, left.len))
        .collect()
}

impl Leftover {
    fn range(&self) -> (u64, u64) {
        let start = self.start.addr().get() as u64;
        (start, start + self.len as u64)
    }

    /// Tries to unmap it; true if nothing of ours is left there.
    fn resolve(&mut self) -> bool {
        let signature = match self.claim {
            // SAFETY: ours as a whole, and unused since it was left behind.
            Claim::Ours => return unsafe { mm::unmap(self.start, self.len) }.is_ok(),
            // Only the owner of the arena knows whether a gap still belongs to it.
            Claim::Occupied => return false,
            Claim::File(signature) | Claim::Arena(signature) => signature,
        };
        let Ok(there) = self.look() else { return false };
        if signature.is(there) {
            // SAFETY: the whole mapping still exists, so it is ours.
            if unsafe { mm::unmap(self.start, self.len) }.is_err() {
                return false;
            }
            if !self.claim.is_in_arena() || self.reserve() {
                return true;
            }
        }
        if self.claim.is_in_arena() {
            self.claim = Claim::Occupied;
            return false;
        }
        true
    }

    /// Whether it is a reservation, or could be replaced by one.
    fn is_reserved(&self) -> bool {
        self.reserve() || self.look() == Ok(There::Reserved)
    }

    fn look(&self) -> rustix::io::Result<There> {
        maps::look(self.start.addr().get(), self.len)
    }

    fn reserve(&self) -> bool {
        // SAFETY: replaces nothing.
        unsafe { mm::reserve_at(self.start, self.len, Existing::Keep) }.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_or_place_is_not_ours() {
        let file = Backing {
            device: (0, 14),
            inode: 32,
            offset: 2 << 40,
        };
        let ours = Signature {
            file,
            physical: Some(4 << 30),
        };
        let at = |offset| There::Shared(Backing { offset, ..file });
        assert!(ours.is(at(2 << 40)) && ours.is(at(4 << 30)));
        assert!(!ours.is(at(0)) && !ours.is(There::Reserved));
        assert!(!ours.is(There::Shared(Backing { inode: 33, ..file })));
        assert!(!ours.is(There::Shared(Backing {
            device: (0, 15),
            ..file
        })));
    }

    #[test]
    fn remembering_takes_the_room_that_was_made() {
        let mut room = Room::default();
        room.extend(3).unwrap();
        let capacity = all().ranges.capacity();
        let file = Backing {
            device: (0, 1),
            inode: 1,
            offset: 0,
        };
        let signature = Signature {
            file,
            physical: None,
        };
        // The first page is never mapped, so nothing is unmapped there.
        let start = NonNull::new(std::ptr::without_provenance_mut::<u8>(4096)).unwrap();
        room.remember(start, 4096, Claim::File(signature));
        assert_eq!(room.0, 2);
        assert_eq!(overlapping(0x1800, 0x3000), Some(0x2000));
        assert_eq!(overlapping(0x2000, 0x3000), None);
        assert_eq!(all().ranges.capacity(), capacity);
        room.give_back();
        retry();
        assert_eq!(overlapping(0, 0x3000), None);
    }
}
