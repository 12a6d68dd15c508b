//! Windows: addresses that are reserved as a plan shapes them.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::mm::ProtFlags;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::Area;
use crate::plan::{Placement, Plan, Shape};
use crate::sys::fork::{Process, this_process};
use crate::sys::mm::{self, Put, Source};

use super::mapping::refused;
use super::{check_page, to_usize};

/// Addresses reserved for the areas of a plan; nothing is behind them yet.
///
/// Whoever touches a window gets a fault (`PROT_NONE`). Dropping it gives the addresses back: to
/// the system, or to the arena that they were taken from.
///
/// # Invariants
///
/// Every block is page-aligned and belongs to this window alone. What the kernel unmapped behind
/// our back (a failed `MAP_FIXED`) is no longer in any block. `mapped` are the whole areas that lie
/// in blocks, each one mapping.
pub struct Window {
    blocks: Vec<Block>,
    mapped: Vec<Block>,
    owner: Owner,
    placement: Placement,
    alignment: u64,
    /// The process that reserved them. A child after fork has this value too, but not the addresses.
    process: Process,
    /// Something outside still refers to the addresses, so they are never given back.
    pinned: AtomicBool,
}

/// Whose addresses they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Ours: unmapped in the end.
    Window,
    /// The caller's arena: left reserved in the end.
    Arena,
}

/// Contiguous addresses for a part of the region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// The lowest address.
    pub(super) start: NonNull<u8>,
    /// Bytes.
    pub(super) len: usize,
    /// Region offset of the first byte.
    pub(super) origin: u64,
}

impl Block {
    fn end(&self) -> usize {
        self.start.addr().get() + self.len
    }

    /// Whether `/proc/self/maps` has a shared mapping of exactly these addresses. Reservations are
    /// private, and so is most of what another thread might have put there.
    fn is_mapped_shared(&self) -> bool {
        let range = format!("{:08x}-{:08x} ", self.start.addr().get(), self.end());
        let Ok(maps) = File::open("/proc/self/maps") else {
            return false;
        };
        // Line by line: this is for when the kernel has no more mappings to give, not even to the
        // allocator for a long text.
        let mut lines = BufReader::new(maps).lines().map_while(std::io::Result::ok);
        let line = lines.find(|line| line.starts_with(&range));
        line.is_some_and(|line| line.as_bytes().get(range.len() + 3) == Some(&b's'))
    }

    fn holds(&self, other: &Block) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// Where in the block an area of the region lies, if it lies there whole.
    fn at(&self, area: &Area) -> Option<NonNull<u8>> {
        let distance = area.offset.checked_sub(self.origin)?;
        let end = distance.checked_add(area.size)?;
        if end > self.len as u64 {
            return None;
        }
        // SAFETY: `distance` was found to lie in the block, which is one reservation.
        Some(unsafe { self.start.add(usize::try_from(distance).ok()?) })
    }
}

// SAFETY: a window is a set of addresses that it alone owns; it has no ties to a thread.
unsafe impl Send for Window {}
// SAFETY: through a shared reference nothing but numbers can be read.
unsafe impl Sync for Window {}

impl Window {
    /// Reserves addresses for a plan (`mmap` of `PROT_NONE`, trimmed by `munmap`).
    ///
    /// Where so many addresses cannot be had, a congruent window is aligned to the next smaller
    /// leaf, and so on down to the page: see [`Window::alignment`]. [`Placement::Plain`] reserves
    /// nothing: its addresses are chosen by the kernel when it maps.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfMemory`] when even the least cannot be had (`RLIMIT_AS`, `vm.max_map_count`).
    pub fn reserve(plan: &Plan) -> Result<Self> {
        check_page(plan)?;
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
            for shape in plan.shapes() {
                // What is reserved so far goes with `window` when this one fails.
                window.blocks.push(reserve(shape)?);
            }
        }
        Ok(window)
    }

    fn empty(plan: &Plan, owner: Owner) -> Self {
        let alignment = plan.shapes().iter().map(|shape| shape.alignment).max();
        Self {
            blocks: Vec::with_capacity(plan.shapes().len()),
            mapped: Vec::with_capacity(plan.layout().areas().len()),
            owner,
            placement: plan.placement(),
            alignment: alignment.unwrap_or(plan.layout().page()),
            process: this_process(),
            pinned: AtomicBool::new(false),
        }
    }

    /// A window of one block, to own it while something is done to it.
    fn holding(block: Block) -> Self {
        Self {
            blocks: vec![block],
            mapped: Vec::new(),
            owner: Owner::Window,
            placement: Placement::Congruent,
            alignment: 1,
            process: this_process(),
            pinned: AtomicBool::new(false),
        }
    }

    /// Takes addresses for a plan from the caller's arena, the lowest that fit.
    ///
    /// When the window, or the mapping made in it, is dropped, whatever was mapped is replaced by a
    /// `PROT_NONE` reservation. Should the kernel refuse that, it is unmapped, and reserved again if no
    /// other thread has taken its addresses meanwhile. A congruent window that does not fit is aligned to
    /// the next smaller leaf, as in [`Window::reserve`]. [`Placement::Plain`] needs page alignment only.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when the arena is not page-aligned, [`ErrorKind::OutOfMemory`] when
    /// the plan does not fit in it.
    ///
    /// # Safety
    ///
    /// Until the window and every mapping made in it are gone, `[base, base + len)`
    /// * must be mapped, and belong to the caller, who keeps out of it and leaves it mapped;
    /// * must hold nothing that is in use: it is replaced.
    ///
    /// Addresses of a mapping that the IOMMU could not be made to forget ([`super::Mapping::is_pinned`])
    /// must not be used again at all.
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
        let mut next = Some(plan.clone());
        while let Some(plan) = next {
            let mut window = Self::empty(&plan, Owner::Arena);
            if window.fill(&plan, base, end) {
                return Ok(window);
            }
            next = plan.relaxed();
        }
        let need: u64 = plan.shapes().iter().map(|shape| shape.length).sum();
        let operation = format!("an arena of {len:#x} bytes is too small for {need:#x}");
        Err(Error::new(ErrorKind::OutOfMemory, operation).on(format!("{base:p}")))
    }

    /// Places each shape at the lowest address that fits; false when one does not.
    fn fill(&mut self, plan: &Plan, base: NonNull<u8>, end: u64) -> bool {
        let first = base.addr().get() as u64;
        let mut free = first;
        for shape in plan.shapes() {
            let start = shape.start_from(free);
            let stop = start.and_then(|start| start.checked_add(shape.length));
            let (Some(start), Some(stop)) = (start, stop.filter(|&stop| stop <= end)) else {
                return false;
            };
            let (Ok(distance), Ok(len)) = (to_usize(start - first), to_usize(shape.length)) else {
                return false;
            };
            self.blocks.push(Block {
                // SAFETY: `start` is at or above the arena's base and below its end.
                start: unsafe { base.add(distance) },
                len,
                origin: shape.origin,
            });
            free = stop;
        }
        true
    }

    /// The alignment that was reached, in bytes: the plan's, or less where addresses were scarce.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// The lowest address of each contiguous block and its length, in the plan's order.
    pub fn blocks(&self) -> impl Iterator<Item = (NonNull<u8>, usize)> + '_ {
        self.blocks.iter().map(|block| (block.start, block.len))
    }

    /// Where region offset 0 is, when one block holds all of a region of `span` bytes.
    pub(super) fn base(&self, span: u64) -> Option<NonNull<u8>> {
        match self.blocks.as_slice() {
            [block] if block.origin == 0 && block.len as u64 >= span => Some(block.start),
            _ => None,
        }
    }

    /// Has the addresses stay as they are for good, for something outside refers to them.
    pub(super) fn pin(&self) {
        self.pinned.store(true, Ordering::Relaxed);
    }

    /// Whether they do.
    pub(super) fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Relaxed)
    }

    /// Where the window has the place of an area, if it has one.
    pub(super) fn place(&self, area: &Area) -> Option<NonNull<u8>> {
        self.blocks.iter().find_map(|block| block.at(area))
    }

    /// In a child after `fork` the addresses are somebody else's.
    fn check_process(&self) -> Result<()> {
        if self.process == this_process() {
            return Ok(());
        }
        let operation = "the window belongs to the process that this one was forked from";
        Err(Error::new(ErrorKind::InvalidInput, operation))
    }

    /// Maps an area of the region where the window has its place, or, in a window for
    /// [`Placement::Plain`] that has none, where the kernel likes.
    pub(super) fn map(
        &mut self,
        area: &Area,
        protection: ProtFlags,
        source: Source<'_>,
    ) -> Result<NonNull<u8>> {
        self.check_process()?;
        let len = to_usize(area.size)?;
        let origin = area.offset;
        let refused = |errno| refused(area, errno);
        let start = match self.place(area) {
            Some(start) => {
                // SAFETY: the place is the window's own, and nothing is mapped there yet: areas of
                // a layout do not overlap, and `clear` has removed any earlier ones. `Mapping::new` has
                // refused files of huge pages.
                let mapped = unsafe { mm::map_over(start, len, protection, source) };
                if let Err(errno) = mapped {
                    self.heal(start, len);
                    return Err(refused(errno));
                }
                start
            }
            None if self.placement == Placement::Plain && self.owner == Owner::Window => {
                let start = mm::map_anywhere(len, protection, source).map_err(refused)?;
                self.blocks.push(Block { start, len, origin });
                start
            }
            None => {
                let operation = format!("the window has no room for area {area}");
                return Err(Error::new(ErrorKind::InvalidInput, operation));
            }
        };
        self.mapped.push(Block { start, len, origin });
        Ok(start)
    }

    /// Replaces every mapped area by a reservation again.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.check_process()?;
        if *self.pinned.get_mut() {
            let operation = "the IOMMU still refers to the mapping";
            return Err(Error::new(ErrorKind::Busy, operation));
        }
        let mut result = Ok(());
        for area in std::mem::take(&mut self.mapped) {
            // SAFETY: the area is whole, so no leaf is split, and belongs to the window, whose
            // owner has given up everything that used it.
            if let Err(errno) = unsafe { mm::reserve_at(area.start, area.len, Put::Over) } {
                self.withdraw(&area);
                result = Err(Error::call("mmap", errno));
            }
        }
        result
    }

    /// Gives up an area that no reservation could replace: at `vm.max_map_count` the kernel refuses
    /// that and leaves the area as it was. Unmapping needs no entry there.
    fn withdraw(&mut self, area: &Block) {
        if area.is_mapped_shared() {
            // SAFETY: as found this moment, the area is still there whole, and so the window's.
            let _ = unsafe { mm::unmap(area.start, area.len) };
        }
        self.heal(area.start, area.len);
    }

    /// Makes good a gap that a failed `MAP_FIXED` may have left, by reserving it again if it is still
    /// free. What is there otherwise, be it the old content or another thread's, is left alone, and
    /// is not ours any more unless the arena says so.
    fn heal(&mut self, start: NonNull<u8>, len: usize) {
        // SAFETY: replaces nothing.
        let healed = unsafe { mm::reserve_at(start, len, Put::IfFree) };
        if healed.is_err() && self.owner == Owner::Window {
            self.forget(start, len);
        }
    }

    /// Gives up the ownership of `[start, start + len)` without unmapping it.
    fn forget(&mut self, start: NonNull<u8>, len: usize) {
        let (low, high) = (start.addr().get(), start.addr().get() + len);
        let mut kept = Vec::with_capacity(self.blocks.len() + 1);
        for block in self.blocks.drain(..) {
            let (first, end) = (block.start.addr().get(), block.end());
            for (from, to) in [(first, end.min(low)), (first.max(high), end)] {
                if from < to {
                    let distance = from - first;
                    kept.push(Block {
                        // SAFETY: `from` lies in the block.
                        start: unsafe { block.start.add(distance) },
                        len: to - from,
                        origin: block.origin + distance as u64,
                    });
                }
            }
        }
        self.blocks = kept;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if *self.pinned.get_mut() || self.process != this_process() {
            return;
        }
        match self.owner {
            Owner::Arena => drop(self.clear()),
            Owner::Window => {
                for block in &self.blocks {
                    // SAFETY: the block is ours alone, and unused now. Its edges are those of
                    // reservations or of whole areas.
                    if unsafe { mm::unmap(block.start, block.len) }.is_ok() {
                        continue;
                    }
                    // At `vm.max_map_count` a reservation that the kernel has merged with another
                    // cannot be cut out. An area needs no cut.
                    for area in self.mapped.iter().filter(|area| block.holds(area)) {
                        // SAFETY: as above, and nothing of the block is unmapped so far.
                        let _ = unsafe { mm::unmap(area.start, area.len) };
                    }
                }
            }
        }
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

/// Reserves more than is needed, and gives back what lies before and behind the fitting part.
fn reserve(shape: &Shape) -> Result<Block> {
    let refused = |errno| {
        let operation = format!("reserving {:#x} bytes of addresses", shape.length);
        Error::call(operation, errno)
    };
    let length = to_usize(shape.length)?;
    let total = shape.reservation().ok_or(refused(Errno::NOMEM))?;
    let total = to_usize(total)?;
    let base = mm::reserve(total).map_err(refused)?;
    let whole = Block {
        start: base,
        len: total,
        origin: 0,
    };
    // From here on dropping `held` gives all of it back.
    let mut held = Window::holding(whole);
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
            // SAFETY: a part of our own reservation that nobody uses.
            unsafe { mm::unmap(start, len) }.map_err(refused)?;
            held.forget(start, len);
        }
    }
    held.blocks.clear();
    Ok(Block {
        start: fitting,
        len: length,
        origin: shape.origin,
    })
}
