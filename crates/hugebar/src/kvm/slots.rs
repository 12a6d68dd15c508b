//! Memory slots of our own virtual machine, and the mappings that it keeps.

#![allow(unsafe_code, reason = "hands addresses to the kernel")]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::guest::Slot;
use crate::layout::Area;
use crate::mem::{Mapping, Span};
use crate::sys::kvm::{self, Memory};

/// A virtual machine and its memory.
///
/// # Invariants
///
/// No other code has the machine's descriptor, and its vCPUs never run. Fields drop in order: the
/// machine before the mappings.
pub(super) struct GuestMemory {
    vm: OwnedFd,
    /// The number of the next slot.
    next: u32,
    mappings: Vec<Arc<Mapping>>,
}

impl GuestMemory {
    /// Takes a virtual machine that was just made.
    pub(super) fn new(vm: OwnedFd) -> Self {
        Self {
            vm,
            next: 0,
            mappings: Vec::new(),
        }
    }

    /// Adds the slots of a mapping, with region offset 0 at guest address `address`
    /// (`KVM_SET_USER_MEMORY_REGION` for each), and keeps the mapping. Adds all slots or none.
    pub(super) fn add(
        &mut self,
        mapping: &Arc<Mapping>,
        exclude: &[Area],
        address: u64,
    ) -> Result<Vec<Slot>> {
        let slots = mapping.slots(exclude)?;
        let flags = if mapping.options().write {
            0
        } else {
            kvm::MEM_READONLY
        };
        // Keep the mapping before adding a slot: one that cannot be removed again refers to it.
        self.mappings.push(mapping.clone());
        let first = self.next;
        for slot in &slots {
            let added = address
                .checked_add(slot.area.offset)
                .ok_or(Errno::INVAL)
                .and_then(|address| {
                    // Slots are parts of areas, each of which is one mapping.
                    let start = mapping
                        .pointer(slot.area.offset, 0)
                        .map_err(|_| Errno::INVAL)?;
                    let size = slot.area.size;
                    self.set(self.next, flags, address, Memory { start, size })
                });
            if let Err(errno) = added {
                // A slot that cannot be removed keeps its number and its mapping, and does no harm.
                if (first..self.next).all(|number| self.remove(number).is_ok()) {
                    self.next = first;
                    self.mappings.pop();
                }
                let at = format!("{} at guest address {address:#x}", slot.area);
                return Err(refused(errno).on(at));
            }
            self.next += 1;
        }
        Ok(slots)
    }

    /// Runs `body` while the span lies at guest address `address`.
    ///
    /// Returns the machine, unless the slot cannot be removed: then the machine is closed, and the slot with it.
    pub(super) fn lend<T>(
        self,
        span: &Span<'_>,
        address: u64,
        body: impl FnOnce() -> Result<T>,
    ) -> (Option<Self>, Result<T>) {
        let memory = Memory {
            start: span.start(),
            size: span.bytes(),
        };
        if let Err(errno) = self.set(self.next, 0, address, memory) {
            return (Some(self), Err(refused(errno)));
        }
        let result = body();
        match self.remove(self.next) {
            Ok(()) => (Some(self), result),
            Err(errno) => {
                let operation = "removing a slot by KVM_SET_USER_MEMORY_REGION";
                (None, Err(Error::call(operation, errno)))
            }
        }
    }

    fn set(&self, number: u32, flags: u32, address: u64, memory: Memory) -> Result<(), Errno> {
        // SAFETY: the addresses are part of a mapping, which holds shared file or device memory: no
        // Rust object, never borrowed. It stays as long as the machine (`add`), or is borrowed until
        // the slot is removed or the machine closed (`lend`). And no vCPU of the machine ever runs: KVM
        // makes no access of its own to what a slot has, and when it is unmapped the MMU notifiers make KVM
        // forget it, be it at once or later.
        unsafe {
            kvm::set_user_memory_region(self.vm.as_fd(), number, flags, address, Some(memory))
        }
    }

    fn remove(&self, number: u32) -> Result<(), Errno> {
        // SAFETY: removes a slot.
        unsafe { kvm::set_user_memory_region(self.vm.as_fd(), number, 0, 0, None) }
    }
}

fn refused(errno: Errno) -> Error {
    let error = Error::call(kvm::SET_USER_MEMORY_REGION.name, errno);
    match errno {
        Errno::EXIST => error.with_remedy("another slot of the guest overlaps"),
        Errno::INVAL => error
            .of_kind(ErrorKind::InvalidInput)
            .with_remedy("a slot must start at a page, and end within the guest's address space"),
        _ => error,
    }
}

impl AsFd for GuestMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.vm.as_fd()
    }
}

impl fmt::Debug for GuestMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemory")
            .field("vm", &self.vm)
            .field("slots", &self.next)
            .finish_non_exhaustive()
    }
}
