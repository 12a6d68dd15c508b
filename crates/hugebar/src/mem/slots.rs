//! Memory slots: the parts of a mapping that a virtual machine monitor gives to its guest.

use crate::error::Result;
use crate::guest::Slot;
use crate::layout::Area;

use super::Mapping;

impl Mapping {
    /// The memory slots that a virtual machine monitor registers for this mapping
    /// (`KVM_SET_USER_MEMORY_REGION`), or maps for DMA one by one: each mapped area, without the parts
    /// in `exclude`.
    ///
    /// `exclude` has what the monitor emulates itself, such as the pages of the MSI-X table, in bytes
    /// of the region; each part grows to whole pages, and may lie in a hole already. A slot ends where a
    /// hole needs it and nowhere else, because a leaf of the guest lies whole in one slot.
    ///
    /// Slots are numbers: who registers them has to keep the mapping for as long as they are.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::InvalidInput`] when a part of `exclude` is empty or reaches beyond the
    /// region.
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
            // Holes only ever take away, so what is left of an area lies in it whole.
            slots.extend(layout.areas().iter().filter(inside).map(|&area| Slot {
                area,
                address: mapped.address() + (area.offset - mapped.area.offset),
            }));
        }
        Ok(slots)
    }
}
