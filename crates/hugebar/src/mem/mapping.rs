//! Mappings: the areas of a region, mapped at addresses.

use std::fmt;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::ProtFlags;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::Area;
use crate::leaf::{LeafSizes, Leaves};
use crate::phys::Phys;
use crate::plan::{Placement, Plan};
use crate::sys::file::{self, Identity};
use crate::sys::mm::{self, Source};

use super::refused::refused;
use super::window::leftovers::{self, Claim, Room};
use super::{Window, to_usize};

/// The `madvise` advice for areas before anything can touch them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hint {
    /// `MADV_HUGEPAGE` for [`Placement::Congruent`], none for the others: they represent programs
    /// that give no hint.
    #[default]
    Auto,
    /// `MADV_HUGEPAGE`.
    On,
    /// None.
    Off,
    /// `MADV_NOHUGEPAGE`: base pages only, on every kernel. For comparison.
    NoHugepage,
}

/// How a region is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapOptions {
    /// `PROT_READ`.
    pub read: bool,
    /// `PROT_WRITE`.
    pub write: bool,
    /// The hint for huge pages.
    pub hint: Hint,
}

/// Readable, writable, hinted if the placement is congruent.
impl Default for MapOptions {
    fn default() -> Self {
        Self {
            read: true,
            write: true,
            hint: Hint::Auto,
        }
    }
}

/// A mapped area and its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedArea {
    /// The part of the region.
    pub area: Area,
    pub(super) start: NonNull<u8>,
}

impl MappedArea {
    /// The address of the area's first byte (HVA).
    pub fn address(&self) -> u64 {
        self.start.addr().get() as u64
    }
}

/// The mappable areas of a region in this process's address space.
///
/// Owns its addresses: dropping it unmaps whole areas, and no function splits one, because the
/// kernel (6.12 to 7.3) oopses if a 1 GiB leaf is split. It keeps no descriptor, because a mapping keeps
/// its file open. Holes stay reserved (`PROT_NONE`) as long as it lives; in an arena they stay as the
/// caller left them. Children do not inherit it: in a child after `fork` its addresses are free, and it
/// must not be used there.
///
/// ```
/// use hugebar::{layout::Layout, leaf::LeafSizes, mem::{MapOptions, Mapping, Window}};
/// use hugebar::{phys::Phys, plan::{Placement, Plan}};
/// # let size = 1 << 20;
/// # let file = rustix::fs::memfd_create("bar", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
/// # rustix::fs::ftruncate(&file, size).unwrap();
/// let layout = Layout::whole(size, 4096)?;
/// let plan = Plan::new(&layout, Phys::Natural, &LeafSizes::X86_64, Placement::Congruent)?;
/// let window = Window::reserve(&plan)?;
/// let mapping = Mapping::new(&file, 0, &plan, window, MapOptions::default())?;
/// mapping.write_u32(0x10, 42)?;
/// assert_eq!(mapping.read_u32(0x10)?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Mapping {
    window: Window,
    plan: Plan,
    areas: Vec<MappedArea>,
    options: MapOptions,
    hinted: bool,
    no_hugepage: bool,
}

// SAFETY: the addresses belong to the mapping, whatever thread it is in.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference the memory is only accessed by volatile reads and writes of single
// words, and it lies outside all Rust allocations: there such accesses are defined by the hardware and are
// no data race (`core::ptr::read_volatile`). How the device handles concurrent ones is up to the device.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the plan's areas of a file (`mmap` with `MAP_SHARED`), and hints them and excludes them from
    /// fork (`madvise`) before anything can touch them.
    ///
    /// `fd_offset` is where the region starts in the file: [`crate::vfio::Region::offset`] for a
    /// device. `window` must have been made for `plan`, or for another plan of the same region.
    ///
    /// Each area is first mapped elsewhere and unmapped again, so that the driver can refuse it before
    /// anything has changed.
    ///
    /// # Errors
    ///
    /// On any error everything is as it was before the window was reserved, and the window's addresses
    /// are given back. To keep the addresses, take them from an arena ([`Window::within`]).
    /// [`ErrorKind::InvalidInput`]: the window has no room for an area, the offset is not page-aligned
    /// or nothing can be mapped; [`ErrorKind::Unsupported`]: the driver refuses to map an area, or the file
    /// is one of huge pages (hugetlbfs).
    ///
    /// There are two exceptions that no process can rule out. If the kernel has no entry left for a mapping
    /// (`vm.max_map_count`), reserved addresses may stay reserved, because it is unknown who owns
    /// them by then, or until they can be given back ([`super::leftovers`]). And a `fork` in another thread during this call inherits what is mapped
    /// at that moment, and keeps the device busy.
    pub fn new(
        fd: impl AsFd,
        fd_offset: u64,
        plan: &Plan,
        window: Window,
        options: MapOptions,
    ) -> Result<Self> {
        super::check_page(plan)?;
        let end = fd_offset.checked_add(plan.layout().span());
        if fd_offset % plan.layout().page() != 0 || end.is_none_or(|end| end > i64::MAX as u64) {
            let operation = format!("a region cannot start at file offset {fd_offset:#x}");
            return Err(Error::new(ErrorKind::InvalidInput, operation));
        }
        if plan.layout().areas().is_empty() {
            let operation = "nothing of the region can be mapped";
            return Err(Error::new(ErrorKind::InvalidInput, operation));
        }
        let hinted = match options.hint {
            Hint::Auto => plan.placement() == Placement::Congruent,
            Hint::On => true,
            Hint::Off | Hint::NoHugepage => false,
        };
        let mut mapping = Self {
            window,
            plan: plan.clone(),
            areas: Vec::with_capacity(plan.layout().areas().len()),
            options,
            hinted,
            no_hugepage: options.hint == Hint::NoHugepage,
        };
        let fd = fd.as_fd();
        let source = |area: &Area| Source {
            fd,
            offset: fd_offset + area.offset,
        };
        let identity = file::identity(fd).map_err(|errno| Error::call("fstat", errno))?;
        let huge = file::is_hugetlb(fd, &identity);
        if huge.map_err(|errno| Error::call("fstatfs", errno))? {
            // The kernel would map whole huge pages, beyond the end of an area.
            let operation = "a file of huge pages (hugetlbfs) cannot be mapped by areas";
            return Err(Error::new(ErrorKind::Unsupported, operation));
        }
        let areas = plan.layout().areas();
        for area in areas {
            // If the kernel chooses the address, nothing can be lost.
            if mapping.window.place(area).is_some() {
                map_for_trial(area, mapping.protection(), source(area))?;
            }
        }
        for area in areas {
            mapping.add(area, source(area), &identity)?;
        }
        Ok(mapping)
    }

    fn add(&mut self, area: &Area, source: Source<'_>, file: &Identity) -> Result<()> {
        let len = to_usize(area.size)?;
        let protection = self.protection();
        let physical = match self.plan.phys() {
            Phys::At(start) => start.checked_add(area.offset),
            Phys::Natural | Phys::Unknown => None,
        };
        let window = &mut self.window;
        let start = window.map(area, protection, source, file, physical)?;
        // Whole areas only, and before the first fault: later advice could split a leaf.
        // SAFETY: the mapping was just made, and no other code knows its address.
        unsafe { mm::advise_dont_fork(start, len) }
            .map_err(|errno| Error::call("madvise(MADV_DONTFORK)", errno))?;
        if self.hinted {
            // A kernel without THP returns EINVAL. A missing hint is no reason to fail.
            // SAFETY: as above.
            self.hinted = unsafe { mm::advise_huge(start, len) }.is_ok();
        }
        if self.no_hugepage {
            // A kernel without THP returns EINVAL, and has only base pages anyway.
            // SAFETY: as above.
            self.no_hugepage = unsafe { mm::advise_no_huge(start, len) }.is_ok();
        }
        self.areas.push(MappedArea { area: *area, start });
        Ok(())
    }

    fn protection(&self) -> ProtFlags {
        let mut flags = ProtFlags::empty();
        flags.set(ProtFlags::READ, self.options.read);
        flags.set(ProtFlags::WRITE, self.options.write);
        flags
    }

    /// Unmaps all areas (`mmap` of `PROT_NONE` over them) and returns the reserved addresses, to map another
    /// layout in the same place: with one more hole, one less, or the same again.
    ///
    /// This is the only way to carve a hole into a mapping. All populated leaves are gone, and have to be
    /// installed again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if the kernel cannot replace an area by a reservation; the
    /// addresses are then given up, and what could not be removed is among [`super::leftovers`].
    pub fn into_window(mut self) -> Result<Window> {
        self.window.clear()?;
        Ok(self.window)
    }

    /// The address of region offset 0, if one window holds the whole region ([`Placement::Congruent`],
    /// and every region without holes): byte `o` of the region is then at this address plus `o`.
    pub fn as_ptr(&self) -> Option<NonNull<u8>> {
        self.window.base(self.plan.layout().span())
    }

    /// Keeps the mapping for good. For populating code whose IOMMU failed to remove the mapping: anything
    /// placed at its addresses later would be within reach of devices.
    pub fn pin(&self) {
        self.window.pin();
    }

    /// Whether the IOMMU failed to remove the mapping, which populating reported as an error.
    /// Its addresses then stay as they are for good, even after it is dropped: in an arena they must not be
    /// used again.
    pub fn is_pinned(&self) -> bool {
        self.window.is_pinned()
    }

    /// The mapped areas, ascending by region offset.
    pub fn areas(&self) -> &[MappedArea] {
        &self.areas
    }

    /// The leaves that these addresses get when fully populated by a kernel with `sizes` for
    /// device memory ([`crate::facts::Facts::device_leaf_sizes`]).
    pub fn expected(&self, sizes: &LeafSizes) -> Leaves {
        let mut areas = self.areas.iter();
        // There is one mapped area for each area of the layout, in its order.
        let leaves = self.plan.sum(sizes, |area| {
            areas.next().map_or(area.offset, MappedArea::address)
        });
        // Use the plan's sizes if possible, to compare with the plan's best.
        leaves.over(self.plan.sizes()).unwrap_or(leaves)
    }

    /// The plan of the mapping.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The alignment of the window in bytes; less than the plan's if address space was scarce.
    pub fn alignment(&self) -> u64 {
        self.window.alignment()
    }

    /// How it was mapped.
    pub fn options(&self) -> MapOptions {
        self.options
    }

    /// Whether the kernel accepted the hint (`MADV_HUGEPAGE`) for every area.
    pub fn hinted(&self) -> bool {
        self.hinted
    }

    /// Whether the kernel accepted the advice against huge pages (`MADV_NOHUGEPAGE`) for every area.
    pub fn no_hugepage(&self) -> bool {
        self.no_hugepage
    }
}

/// Maps an area at an address of the kernel's choice and unmaps it again.
fn map_for_trial(area: &Area, protection: ProtFlags, source: Source<'_>) -> Result<()> {
    let len = to_usize(area.size)?;
    let mut room = Room::default();
    room.extend(1)?;
    let tried = match mm::map_anywhere(len, protection, source) {
        Ok(address) => {
            leftovers::taken(address, len);
            // SAFETY: the mapping was just made and never touched.
            let unmapped = unsafe { mm::unmap(address, len) };
            unmapped.map_err(|errno| {
                // It is tried again when the window is dropped, which happens now.
                room.remember(address, len, Claim::Ours);
                Error::call("munmap", errno)
            })
        }
        // There may be room for the mapping in its window but not for a second one elsewhere.
        Err(Errno::NOMEM) => Ok(()),
        Err(errno) => Err(refused(area, errno)),
    };
    room.give_back();
    tried
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("areas", &self.areas)
            .field("options", &self.options)
            .field("hinted", &self.hinted)
            .field("no_hugepage", &self.no_hugepage)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// `0x0+0x100000 at 0x7f0000000000`, one area per line.
impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mapped) in self.areas.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{} at {:#x}", mapped.area, mapped.address())?;
        }
        Ok(())
    }
}
