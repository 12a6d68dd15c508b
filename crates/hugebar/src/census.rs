//! The census: counts the leaves that the kernel really installed, without privilege.
//!
//! From Linux 6.12 a leaf costs one minor fault of the thread that populates it, so populating one
//! page of each expected leaf counts them, and populating the last page of a leaf without a fault
//! proves its size. Before, the first fault of a mapping fills all of it with 4 KiB leaves, which
//! shows in the memory of its page tables.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::facts::{self, Facts};
use crate::leaf::{self, LeafSizes, Leaves, Run};
use crate::mem::{AccessError, MappedArea, Mapping, Scratch};
use crate::populate::Populate;
use crate::sys::process;
use crate::verdict::Verdict;

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// The leaves found, by size.
    pub measured: Leaves,
    /// The leaves that the bytes counted should have at their addresses on this kernel.
    pub expected: Leaves,
    /// Minor faults while populating.
    pub faults: u64,
    /// How long the kernel took to populate.
    pub elapsed: Duration,
    /// Whether all of the mapping was counted, and not only up to the limit.
    pub complete: bool,
    /// Whether some leaf turned out to be smaller than expected, be it counted or beyond the limit.
    pub broken: bool,
}

impl Census {
    /// The verdict on the mapping, of which `best` and `expected` are the leaves.
    ///
    /// What a limit left out is taken to be as expected.
    pub fn verdict(&self, best: &Leaves, expected: &Leaves) -> Verdict {
        if self.complete {
            Verdict::of(best, expected, Some(&self.measured))
        } else if self.broken || self.measured.total() > self.expected.total() {
            Verdict::Degraded
        } else if self.measured.total() == 0 {
            Verdict::Unmeasured
        } else {
            Verdict::of(best, expected, Some(expected))
        }
    }
}

/// How far a census has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes counted.
    pub done: u64,
    /// Bytes of the mapping.
    pub total: u64,
}

/// How a census is taken.
pub struct CensusOptions<'a> {
    /// At most this many bytes are populated in pages, as every byte is whose leaf turns out to be
    /// one; `None` for no limit. A GiB of pages takes a million faults.
    pub limit: Option<u64>,
    /// Told before each step; `Break` ends the census with [`ErrorKind::Stopped`].
    pub progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

/// Populates a mapping and counts its leaves (`getrusage(RUSAGE_THREAD)` around each step).
///
/// Takes about two steps for each leaf that comes out as expected. The mapping must not have been
/// touched before: use [`Mapping::into_window`] to map it anew.
///
/// # Errors
///
/// [`ErrorKind::AlreadyPopulated`] when leaves were there before; [`ErrorKind::Miscounted`] when the
/// faults do not add up to the bytes; [`ErrorKind::Stopped`]; [`ErrorKind::InvalidInput`] when the
/// mapping was planned without a leaf size that this kernel has; whatever populating says.
pub fn census(
    mapping: &Mapping,
    facts: &Facts,
    populate: &mut dyn Populate,
    options: CensusOptions<'_>,
) -> Result<Census> {
    let sizes = *mapping.plan().sizes();
    let nothing = Leaves::none(&sizes);
    let kernel_sizes = facts.device_leaf_sizes();
    if Leaves::none(&kernel_sizes).over(&sizes).is_none() {
        let operation = format!("planned for leaves of {sizes:?}, the kernel has {kernel_sizes:?}");
        return Err(Error::new(ErrorKind::InvalidInput, operation));
    }
    let (page, machine) = (sizes.base(), process::page_size());
    if page != machine {
        let operation = format!("planned for pages of {page} bytes, this machine has {machine}");
        return Err(Error::new(ErrorKind::InvalidInput, operation));
    }
    // Whole pages, and one at least, whatever the implementation says.
    let longest = (populate.longest() / page).max(1) * page;
    let mut count = Count {
        mapping,
        kernel_sizes,
        longest,
        populate,
        limit: options.limit.unwrap_or(u64::MAX),
        progress: options.progress,
        progressed: Progress {
            done: 0,
            total: mapping.plan().layout().mappable(),
        },
        known: Vec::new(),
        result: Census {
            measured: nothing,
            expected: nothing,
            faults: 0,
            elapsed: Duration::ZERO,
            complete: true,
            broken: false,
        },
    };
    count.warm_up(page)?;
    for area in mapping.areas() {
        if facts.has_huge_device_leaves() {
            count.area(area, &sizes)?;
        } else {
            count.old_kernel(area, &sizes)?;
        }
    }
    Ok(count.result)
}

/// A census under way.
struct Count<'a> {
    mapping: &'a Mapping,
    kernel_sizes: LeafSizes,
    populate: &'a mut dyn Populate,
    /// Bytes of the longest step.
    longest: u64,
    /// Bytes that may still be populated in pages.
    limit: u64,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    progressed: Progress,
    /// Pages that were populated ahead of their turn, by address, and the faults that they took.
    known: Vec<(u64, u64)>,
    result: Census,
}

impl Count<'_> {
    /// Goes through the same steps on a page of no account, so that the thread's own first faults
    /// (stack, code, vDSO) are not counted.
    fn warm_up(&mut self, page: u64) -> Result<()> {
        let scratch = Scratch::new(page)?;
        for _ in 0..2 {
            process::minor_faults().map_err(|errno| Error::call("getrusage", errno))?;
            // Memory, unlike BARs, is charged to RLIMIT_MEMLOCK, which may be used up. What is really
            // wrong the first step will say.
            let _ = self.populate.populate(&scratch.span()?);
        }
        Ok(())
    }

    /// Counts an area leaf by leaf, in the order of its addresses.
    fn area(&mut self, area: &MappedArea, sizes: &LeafSizes) -> Result<()> {
        let hpa = self.mapping.plan().phys().behind(area.area.offset);
        for run in leaf::runs(area.address(), hpa, area.area.size, sizes) {
            let whole = match sizes.below(run.size) {
                None => self.pages(area, run)?,
                Some(smaller) => self.large(area, run, &smaller)?,
            };
            if !whole {
                self.result.complete = false;
                return Ok(());
            }
        }
        Ok(())
    }

    /// A run of pages: as many faults as pages. False when the limit ended it.
    fn pages(&mut self, area: &MappedArea, run: Run) -> Result<bool> {
        let mut start = run.start;
        let mut left = run.count * run.size;
        while left > 0 {
            let step = left.min(self.longest).min(self.limit);
            let step = step / run.size * run.size;
            if step == 0 {
                return Ok(false);
            }
            let faults = self.step(area, start, step)?;
            let pages = step / run.size;
            if faults != pages {
                return Err(self.wrong(area, start, step, faults, pages));
            }
            self.limit -= step;
            self.found(area, start, step, |leaves| leaves.add(run.size, pages));
            start += step;
            left -= step;
        }
        Ok(true)
    }

    /// A run of leaves larger than a page: the first page of each takes a fault, the last none.
    /// False when the limit ended it.
    fn large(&mut self, area: &MappedArea, run: Run, smaller: &LeafSizes) -> Result<bool> {
        for index in 0..run.count {
            let start = run.start + index * run.size;
            let page = smaller.base();
            let first = self.step(area, start, page)?;
            if first == 0 {
                return Err(self.wrong(area, start, page, 0, 1));
            }
            let last = self.step(area, start + run.size - page, page)?;
            // A fault of the thread's own may have come between: the middle is under the same leaf, but
            // under none of the smaller ones that the ends might have.
            let middle = match last {
                0 => 0,
                _ => self.step(area, start + run.size / 2, page)?,
            };
            if last == 0 || middle == 0 {
                self.found(area, start, run.size, |leaves| leaves.add(run.size, 1));
                continue;
            }
            self.result.broken = true;
            if run.size > self.limit {
                return Ok(false);
            }
            self.limit -= run.size;
            self.broken(area, start, run.size, smaller, first + last + middle)?;
        }
        Ok(true)
    }

    /// A block that is not one leaf: populates all of it, and finds the numbers of leaves of the
    /// smaller sizes that make up both its bytes and its faults. `before` were taken already.
    fn broken(
        &mut self,
        area: &MappedArea,
        start: u64,
        size: u64,
        smaller: &LeafSizes,
        before: u64,
    ) -> Result<()> {
        let mut faults = before;
        let mut from = 0;
        while from < size {
            let step = self.longest.min(size - from);
            faults += self.step(area, start + from, step)?;
            from += step;
        }
        let found = solve(size, faults, smaller);
        let found = found.ok_or_else(|| self.wrong(area, start, size, faults, faults))?;
        self.found(area, start, size, |leaves| leaves.add_all(&found));
        Ok(())
    }

    /// Counts an area on a kernel whose version is older than huge leaves for device memory.
    ///
    /// There the first fault fills a whole area with pages. But the version may deceive: a distribution
    /// can have taken huge leaves back to it.
    fn old_kernel(&mut self, area: &MappedArea, sizes: &LeafSizes) -> Result<()> {
        // One fault cannot be stopped half-way.
        if area.area.size > self.limit {
            self.result.complete = false;
            return Ok(());
        }
        let page = sizes.base();
        let (start, size) = (area.address(), area.area.size);
        let pages = size / page;
        // No other thread can come into being while only this one is there.
        let alone = facts::threads() == Some(1);
        let before = facts::page_table_bytes();
        let first = self.step(area, start, page)?;
        let after = facts::page_table_bytes();
        if first == 0 {
            return Err(self.wrong(area, start, page, 0, 1));
        }
        let last_page = start + (pages - 1) * page;
        let last = match pages {
            1 => 0,
            _ => self.step(area, last_page, page)?,
        };
        // Page tables that lie whole in the area are new, and are there only if it has pages: the
        // rest of it could have been in tables of its neighbours'.
        let table = page * (page / 8);
        let tables = (start + size) / table;
        let new_tables = tables.saturating_sub(start.div_ceil(table)) * page;
        let grown = before
            .zip(after)
            .is_none_or(|(before, after)| after.saturating_sub(before) >= new_tables);
        let filled = last == 0 && (grown || !alone && self.last_page_tells(area, sizes)?);
        if !filled {
            self.known.extend([(start, first), (last_page, last)]);
            return self.area(area, sizes);
        }
        self.limit -= size;
        self.found(area, start, size, |leaves| leaves.add(page, pages));
        Ok(())
    }

    /// That the first fault filled an area, of which the last page took none.
    ///
    /// For when the page tables did not grow, but are those of other threads as well, which may have
    /// given some back meanwhile. Only a last page under another leaf than the first one's tells then.
    fn last_page_tells(&self, area: &MappedArea, sizes: &LeafSizes) -> Result<bool> {
        let hpa = self.mapping.plan().phys().behind(area.area.offset);
        if leaf::leaves(area.address(), hpa, area.area.size, sizes).total() > 1 {
            return Ok(true);
        }
        let operation = "other threads may have changed the page tables meanwhile";
        let error = Error::new(ErrorKind::Miscounted, operation).on(format!("area {}", area.area));
        Err(error.remedy("map it anew and count again"))
    }

    /// Populates `len` bytes at an address of an area, and tells the faults that it took.
    fn step(&mut self, area: &MappedArea, address: u64, len: u64) -> Result<u64> {
        if (self.progress)(self.progressed).is_break() {
            return Err(Error::new(ErrorKind::Stopped, "the census was stopped"));
        }
        let offset = area.area.offset + (address - area.address());
        let inside = |error: AccessError| Error::new(ErrorKind::InvalidInput, error.to_string());
        let span = self.mapping.span(offset, len).map_err(inside)?;
        let refused = |errno| Error::call("getrusage", errno);
        let before = process::minor_faults().map_err(refused)?;
        let elapsed = self.populate.populate(&span)?;
        let after = process::minor_faults().map_err(refused)?;
        let faults = after.saturating_sub(before);
        self.result.faults = self.result.faults.saturating_add(faults);
        self.result.elapsed += elapsed;
        let mut earlier = 0;
        self.known.retain(|&(page, faults)| {
            let inside = address <= page && page - address < len;
            earlier += if inside { faults } else { 0 };
            !inside
        });
        Ok(faults + earlier)
    }

    /// Notes that `[address, address + len)` of an area is counted.
    fn found(&mut self, area: &MappedArea, address: u64, len: u64, add: impl FnOnce(&mut Leaves)) {
        let plan = self.mapping.plan();
        let offset = area.area.offset + (address - area.address());
        let hpa = plan.phys().behind(offset);
        add(&mut self.result.measured);
        // Steps end where runs do, or at least at a page: cutting there can only split runs of
        // pages, so the parts add up to the whole.
        let leaves = leaf::leaves(address, hpa, len, &self.kernel_sizes);
        self.result.expected.add_all(&leaves);
        self.progressed.done += len;
    }

    fn wrong(&self, area: &MappedArea, address: u64, len: u64, faults: u64, due: u64) -> Error {
        let kind = if faults < due {
            ErrorKind::AlreadyPopulated
        } else {
            ErrorKind::Miscounted
        };
        let error = Error::new(
            kind,
            format!("{faults} faults for {len:#x} bytes at {address:#x}"),
        )
        .on(format!("area {}", area.area));
        match kind {
            ErrorKind::AlreadyPopulated => {
                error.remedy("it was populated before; map it anew to count its leaves")
            }
            _ => error.remedy("no leaves add up to that"),
        }
    }
}

/// The numbers of leaves of at most two sizes that make up both `bytes` and `leaves`.
fn solve(bytes: u64, leaves: u64, sizes: &LeafSizes) -> Option<Leaves> {
    let mut found = Leaves::none(sizes);
    match *sizes.as_slice() {
        [page] => {
            found.add(page, leaves);
        }
        [page, large] => {
            // large × l + page × p = bytes and l + p = leaves.
            let surplus = bytes.checked_sub(leaves.checked_mul(page)?)?;
            if surplus % (large - page) != 0 {
                return None;
            }
            let larges = surplus / (large - page);
            found.add(large, larges);
            found.add(page, leaves.checked_sub(larges)?);
        }
        _ => return None,
    }
    (found.bytes() == u128::from(bytes)).then_some(found)
}
