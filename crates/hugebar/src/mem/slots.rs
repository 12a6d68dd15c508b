//! Memory slots: the parts of a mapping that a virtual machine monitor gives to its guest.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::error::Result;
use crate::guest::Slot;
use crate::layout::Area;

use super::Mapping;

impl Mapping {
    /// The memory slots that a virtual machine monitor registers for this mapping
    /// (`KVM_SET_USER_MEMORY_REGION`), or maps for DMA one by one: each mapped area, without the parts
    /// in `exclude`.
    ///
    /// `exclude` lists the parts that the monitor emulates itself, such as the pages of the MSI-X table, in bytes
    /// of the region; each part is rounded out to whole pages, and may already lie in a hole. Slots are split only at
    /// holes, because a leaf of the guest lies whole in one slot.
    ///
    /// Slots are numbers: the caller has to keep the mapping as long as they are registered. [`Mapping::into_slots`]
    /// returns slots that keep the mapping.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] if a part of `exclude` is empty or reaches beyond the
    /// region; [`Area::clamped`] cuts one to the region.
    ///
    /// ```
    /// use hugebar::{layout::{Area, Layout}, leaf::LeafSizes, mem::{MapOptions, Mapping, Window}};
    /// use hugebar::{phys::Phys, plan::{Placement, Plan}};
    /// # let size = 1 << 20;
    /// # let file = rustix::fs::memfd_create("bar", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    /// # rustix::fs::ftruncate(&file, size).unwrap();
    /// # let plan = Plan::new(&Layout::whole(size, 4096)?, Phys::Natural, &LeafSizes::X86_64, Placement::Congruent)?;
    /// # let mapping = Mapping::new(&file, 0, &plan, Window::reserve(&plan)?, MapOptions::default())?;
    /// let slots = mapping.slots(&[Area::new(0x6010, 0x20)])?;
    /// assert_eq!(slots[0].area, Area::new(0, 0x6000));
    /// assert_eq!(slots[1].area, Area::new(0x7000, 0xf_9000));
    /// assert_eq!(slots[1].address - slots[0].address, 0x7000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn slots(&self, exclude: &[Area]) -> Result<Vec<Slot>> {
        let mut layout = self.plan().layout().clone();
        for &hole in exclude {
            layout = layout.without(hole)?;
        }
        let mut slots = Vec::with_capacity(layout.areas().len());
        for mapped in self.areas() {
            let behind = mapped.area.offset + mapped.area.size;
            let inside = |area: &&Area| (mapped.area.offset..behind).contains(&area.offset);
            // Holes only remove parts, so the rest of an area lies whole in it.
            slots.extend(layout.areas().iter().filter(inside).map(|&area| Slot {
                area,
                address: mapped.address() + (area.offset - mapped.area.offset),
            }));
        }
        Ok(slots)
    }

    /// The same slots, each sharing ownership of the mapping: the addresses are freed with the last of them.
    ///
    /// # Errors
    ///
    /// As [`Mapping::slots`].
    pub fn into_slots(self: Arc<Self>, exclude: &[Area]) -> Result<Vec<OwnedSlot>> {
        let slots = self.slots(exclude)?;
        let owned = slots.iter().map(|slot| {
            // Check only the start: the last page of a region may reach beyond its end.
            let start = self.pointer(slot.area.offset, 0)?;
            Ok(OwnedSlot {
                start,
                area: slot.area,
                mapping: self.clone(),
            })
        });
        owned.collect()
    }
}

/// A memory slot that shares ownership of its mapping.
///
/// Keep it as long as the slot is registered: then the addresses are neither unmapped nor
/// reused.
#[derive(Clone)]
pub struct OwnedSlot {
    start: NonNull<u8>,
    area: Area,
    mapping: Arc<Mapping>,
}

// SAFETY: as for `Mapping`, which it shares.
unsafe impl Send for OwnedSlot {}
// SAFETY: as above.
unsafe impl Sync for OwnedSlot {}

impl OwnedSlot {
    /// The address of its first byte in this process (KVM's `userspace_addr`).
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    /// Its length in bytes, whole pages.
    pub fn bytes(&self) -> u64 {
        self.area.size
    }

    /// Its offset in the region: its guest address is the region's plus this.
    pub fn offset(&self) -> u64 {
        self.area.offset
    }

    /// Its part of the region.
    pub fn area(&self) -> Area {
        self.area
    }

    /// The mapping that it is in.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }
}

impl fmt::Debug for OwnedSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedSlot")
            .field("start", &self.start)
            .field("area", &self.area)
            .finish_non_exhaustive()
    }
}
