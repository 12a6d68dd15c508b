//! Windows: addresses reserved for a plan.

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::mm::ProtFlags;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::Area;
use crate::plan::{Placement, Plan, Shape};
use crate::sys::file::Identity;
use crate::sys::fork::{Process, this_process};
use crate::sys::maps::Backing;
use crate::sys::mm::{self, Source};

use super::refused::refused;
use super::{check_page, to_usize};

mod block;
pub(super) mod leftovers;
mod release;

use block::{Block, Mapped};
use leftovers::{Room, Signature};

/// Addresses reserved for the areas of a plan, with nothing mapped there yet.
///
/// Accessing a window raises SIGSEGV (`PROT_NONE`). Dropping it returns the addresses to
/// the system, or to their arena.
///
/// # Invariants
///
/// Every block is page-aligned and belongs to this window alone. Addresses that the kernel unmapped behind
/// our back (a failed `MAP_FIXED`) are no longer in any block. `mapped` lists the whole areas that lie
/// in blocks, each one mapping. There is room to remember two leftovers for each area, and one for each block.
pub struct Window {
    /// Has room for one more block for each area: giving up an area can cut a block in two.
    blocks: Vec<Block>,
    mapped: Vec<Mapped>,
    room: Room,
    owner: Owner,
    placement: Placement,
    alignment: u64,
    /// The process that reserved them. A child after fork has this value too, but not the addresses.
    process: Process,
    /// Something outside still refers to the addresses, so they are never given back.
    pinned: AtomicBool,
}

/// Who owns the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Ours: unmapped in the end.
    Window,
    /// The caller's arena: left reserved in the end.
    Arena,
}

// SAFETY: a window is a set of addresses that it alone owns; it is not tied to a thread.
unsafe impl Send for Window {}
// SAFETY: through a shared reference only numbers can be read.
unsafe impl Sync for Window {}

impl Window {
    /// Reserves addresses for a plan (`mmap` of `PROT_NONE`, trimmed by `munmap`).
    ///
    /// If there is not enough address space, a congruent window is aligned to the next smaller
    /// leaf, and so on down to the page: see [`Window::alignment`]. [`Placement::Plain`] reserves
    /// nothing: the kernel chooses its addresses when mapping.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] if even page alignment fails (`RLIMIT_AS`, `vm.max_map_count`).
    pub fn reserve(plan: &Plan) -> Result<Self> {
        check_page(plan)?;
        leftovers::retry();
        let mut tried = Self::reserve_exactly(plan);
        let mut relaxed = plan.relaxed();
        while let (Err(error), Some(plan)) = (&tried, &relaxed) {
            if error.kind() != ErrorKind::OutOfMemory {
                break;
            }
            tried = Self::reserve_exactly(plan);
            relaxed = plan.relaxed();
        }
        tried
    }

    fn reserve_exactly(plan: &Plan) -> Result<Self> {
        let mut window = Self::empty(plan, Owner::Window);
        if plan.placement() != Placement::Plain {
            window.room.extend(plan.shapes().len())?;
            for shape in plan.shapes() {
                // If this one fails, dropping `window` frees the earlier reservations.
                let block = reserve(shape)?;
                leftovers::taken(block.start, block.len);
                window.blocks.push(block);
            }
        }
        Ok(window)
    }

    fn empty(plan: &Plan, owner: Owner) -> Self {
        let alignment = plan.shapes().iter().map(|shape| shape.alignment()).max();
        let areas = plan.layout().areas().len();
        Self {
            blocks: Vec::with_capacity(plan.shapes().len() + areas),
            mapped: Vec::with_capacity(areas),
            room: Room::default(),
            owner,
            placement: plan.placement(),
            alignment: alignment.unwrap_or(plan.layout().page()),
            process: this_process(),
            pinned: AtomicBool::new(false),
        }
    }

    /// A window that temporarily owns one block.
    fn holding(block: Block, room: Room) -> Self {
        Self {
            blocks: vec![block],
            mapped: Vec::new(),
            room,
            owner: Owner::Window,
            placement: Placement::Congruent,
            alignment: 1,
            process: this_process(),
            pinned: AtomicBool::new(false),
        }
    }

    /// Takes addresses for a plan from the caller's arena, the lowest that fit.
    ///
    /// Dropping the window, or the mapping made in it, replaces all mapped areas by a
    /// `PROT_NONE` reservation (`mmap`). If the kernel refuses that, it unmaps them, and reserves the addresses again if
    /// no other thread has taken them meanwhile. Areas that cannot be unmapped either are remembered: no
    /// window is placed over them, and [`super::leftovers`] lists them. A congruent window that does not fit
    /// is aligned to the next smaller leaf, as in [`Window::reserve`]. [`Placement::Plain`] needs only page
    /// alignment.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the arena is not page-aligned, [`ErrorKind::OutOfMemory`] if
    /// the plan does not fit in it.
    ///
    /// # Safety
    ///
    /// Until the window and every mapping made in it are gone, and no part of them is among
    /// [`super::leftovers`], `[base, base + len)`
    /// * must be mapped, and belong to the caller, who keeps out of it and leaves it mapped;
    /// * must hold nothing that is in use, because it is replaced.
    ///
    /// The addresses of a mapping that the IOMMU failed to remove ([`super::Mapping::is_pinned`]) stay
    /// among them for good.
    pub unsafe fn within(plan: &Plan, base: NonNull<u8>, len: usize) -> Result<Self> {
        check_page(plan)?;
        let page = plan.layout().page();
        let start = base.addr().get() as u64;
        let aligned = start % page == 0 && len as u64 % page == 0;
        let end = start.checked_add(len as u64).filter(|_| aligned);
        let Some(end) = end else {
            let operation = format!("an arena of {len:#x} bytes is not whole pages");
            return Err(Error::new(ErrorKind::InvalidInput, operation).on(format!("{base:p}")));
        };
        leftovers::retry_in_arena(start, end);
        let mut next = Some(plan.clone());
        while let Some(plan) = next {
            let mut window = Self::empty(&plan, Owner::Arena);
            if window.fill(&plan, base, end) {
                return Ok(window);
            }
            next = plan.relaxed();
        }
        let need: u64 = plan.shapes().iter().map(|shape| shape.length()).sum();
        let operation = format!("an arena of {len:#x} bytes is too small for {need:#x}");
        Err(Error::new(ErrorKind::OutOfMemory, operation).on(format!("{base:p}")))
    }

    /// Places each shape at the lowest fitting address without leftovers; false if one does not fit.
    fn fill(&mut self, plan: &Plan, base: NonNull<u8>, end: u64) -> bool {
        let first = base.addr().get() as u64;
        let mut free = first;
        for shape in plan.shapes() {
            let (start, stop) = loop {
                let start = shape.start_from(free);
                let stop = start.and_then(|start| start.checked_add(shape.length()));
                let (Some(start), Some(stop)) = (start, stop.filter(|&stop| stop <= end)) else {
                    return false;
                };
                match leftovers::overlapping(start, stop) {
                    Some(behind) => free = behind,
                    None => break (start, stop),
                }
            };
            let (Ok(distance), Ok(len)) = (to_usize(start - first), to_usize(shape.length()))
            else {
                return false;
            };
            self.blocks.push(Block {
                // SAFETY: `start` is at or above the arena's base and below its end.
                start: unsafe { base.add(distance) },
                len,
                origin: shape.origin(),
            });
            free = stop;
        }
        true
    }

    /// The actual alignment in bytes: the plan's, or less if address space was scarce.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// The lowest address of each contiguous block and its length, in the plan's order.
    pub fn blocks(&self) -> impl Iterator<Item = (NonNull<u8>, usize)> + '_ {
        self.blocks.iter().map(|block| (block.start, block.len))
    }

    /// The address of region offset 0, if one block holds the whole region of `span` bytes.
    pub(super) fn base(&self, span: u64) -> Option<NonNull<u8>> {
        match self.blocks.as_slice() {
            [block] if block.origin == 0 && block.len as u64 >= span => Some(block.start),
            _ => None,
        }
    }

    /// Keeps the addresses as they are for good, because something outside refers to them.
    pub(super) fn pin(&self) {
        self.pinned.store(true, Ordering::Relaxed);
    }

    /// Whether the addresses are kept for good.
    pub(super) fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Relaxed)
    }

    /// The address for an area, if the window has room for it.
    pub(super) fn place(&self, area: &Area) -> Option<NonNull<u8>> {
        self.blocks.iter().find_map(|block| block.at(area))
    }

    /// Fails in a child after `fork`, to which the addresses do not belong.
    fn check_process(&self) -> Result<()> {
        if self.process == this_process() {
            return Ok(());
        }
        let operation = "the window belongs to the process that this one was forked from";
        Err(Error::new(ErrorKind::InvalidInput, operation))
    }

    /// Maps an area at its address in the window (`mmap`), or, in a window for
    /// [`Placement::Plain`] without one, at an address of the kernel's choice.
    pub(super) fn map(
        &mut self,
        area: &Area,
        protection: ProtFlags,
        source: Source<'_>,
        file: &Identity,
        physical: Option<u64>,
    ) -> Result<NonNull<u8>> {
        self.check_process()?;
        // One leftover for the area, and one for the rest of its block after cutting it out.
        self.room.extend(2)?;
        let len = to_usize(area.size)?;
        let origin = area.offset;
        let signature = Signature {
            file: Backing {
                device: file.device,
                inode: file.inode,
                offset: source.offset,
            },
            physical,
        };
        let refused = |errno| refused(area, errno);
        let start = match self.place(area) {
            Some(start) => {
                // SAFETY: the addresses belong to the window, and nothing is mapped there yet: areas of
                // a layout do not overlap, and `clear` has removed any earlier ones. `Mapping::new` has
                // refused files of huge pages.
                let mapped = unsafe { mm::map_over(start, len, protection, source) };
                if let Err(errno) = mapped {
                    self.heal(start, len, signature);
                    return Err(refused(errno));
                }
                start
            }
            None if self.placement == Placement::Plain && self.owner == Owner::Window => {
                let start = mm::map_anywhere(len, protection, source).map_err(refused)?;
                leftovers::taken(start, len);
                self.blocks.push(Block { start, len, origin });
                start
            }
            None => {
                let operation = format!("the window has no room for area {area}");
                return Err(Error::new(ErrorKind::InvalidInput, operation));
            }
        };
        let block = Block { start, len, origin };
        self.mapped.push(Mapped { block, signature });
        Ok(start)
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("blocks", &self.blocks)
            .field("mapped", &self.mapped)
            .field("owner", &self.owner)
            .field("placement", &self.placement)
            .field("alignment", &self.alignment)
            .finish()
    }
}

/// Reserves more than is needed (`mmap`), and frees the parts before and after the fitting one (`munmap`).
fn reserve(shape: &Shape) -> Result<Block> {
    let refused = |errno| {
        let operation = format!("reserving {:#x} bytes of addresses", shape.length());
        Error::call(operation, errno)
    };
    let length = to_usize(shape.length())?;
    let total = shape.reservation().ok_or(refused(Errno::NOMEM))?;
    let total = to_usize(total)?;
    // For both ends and what lies between.
    let mut room = Room::default();
    room.extend(3)?;
    let base = match mm::reserve(total) {
        Ok(base) => base,
        Err(errno) => {
            room.give_back();
            return Err(refused(errno));
        }
    };
    let whole = Block {
        start: base,
        len: total,
        origin: 0,
    };
    // From here on dropping `held` gives all of it back.
    let mut held = Window::holding(whole, room);
    let low = base.addr().get() as u64;
    let start = shape.start_from(low).ok_or(refused(Errno::NOMEM))?;
    let head = to_usize(start - low)?;
    let tail = total - head - length;
    // SAFETY: `head` lies in the reservation.
    let fitting = unsafe { base.add(head) };
    // SAFETY: so does `head + length`, or it is its end.
    let rest = unsafe { fitting.add(length) };
    for (start, len) in [(base, head), (rest, tail)] {
        if len > 0 {
            // SAFETY: an unused part of our own reservation.
            unsafe { mm::unmap(start, len) }.map_err(refused)?;
            held.forget(start, len);
        }
    }
    held.blocks.clear();
    Ok(Block {
        start: fitting,
        len: length,
        origin: shape.origin(),
    })
}
