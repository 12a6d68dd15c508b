//! Counts on kernels that install leaves one by one (Linux 6.12 and later).

use std::ops::ControlFlow;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::leaf::{self, LeafSizes, Leaves, Run};
use crate::mem::{MappedArea, Mapping, Scratch};
use crate::populate::Populate;
use crate::sys::process;

use super::probe::{Random, Votes};
use super::result::{Census, Progress};

/// A census in progress.
pub(super) struct Count<'a> {
    pub(super) mapping: &'a Mapping,
    kernel_sizes: LeafSizes,
    populate: &'a mut dyn Populate,
    /// The longest step, in bytes.
    longest: u64,
    /// Bytes that may still be populated in base pages.
    pub(super) limit: u64,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    progressed: Progress,
    random: Random,
    /// Pages that were populated out of order, by address, with their faults.
    pub(super) known: Vec<(u64, u64)>,
    pub(super) result: Census,
}

impl<'a> Count<'a> {
    pub(super) fn new(
        mapping: &'a Mapping,
        kernel_sizes: LeafSizes,
        longest: u64,
        populate: &'a mut dyn Populate,
        limit: Option<u64>,
        progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Self {
        let nothing = Leaves::none(mapping.plan().sizes());
        Self {
            mapping,
            kernel_sizes,
            populate,
            longest,
            limit: limit.unwrap_or(u64::MAX),
            progress,
            progressed: Progress {
                done: 0,
                total: mapping.plan().layout().mappable(),
            },
            random: Random::new(),
            known: Vec::new(),
            result: Census {
                measured: nothing,
                expected: nothing,
                faults: 0,
                elapsed: Duration::ZERO,
                complete: true,
                broken: false,
            },
        }
    }

    /// Performs the same steps on a scratch page, so that the thread's own first faults
    /// (stack, code, vDSO) are not counted.
    pub(super) fn warm_up(&mut self, page: u64) -> Result<()> {
        let scratch = Scratch::new(page)?;
        for _ in 0..2 {
            process::minor_faults().map_err(|errno| Error::call("getrusage", errno))?;
            // Memory, unlike BARs, is charged to RLIMIT_MEMLOCK, which may be exhausted. The first step
            // reports real errors.
            let _ = self.populate.populate(&scratch.span()?);
        }
        Ok(())
    }

    /// Counts an area leaf by leaf, in the order of its addresses.
    pub(super) fn area(&mut self, area: &MappedArea, sizes: &LeafSizes) -> Result<()> {
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

    /// Counts a run of base pages. False if the limit ended it.
    fn pages(&mut self, area: &MappedArea, run: Run) -> Result<bool> {
        let mut start = run.start;
        let mut left = run.count * run.size;
        while left > 0 {
            let step = left.min(self.longest).min(self.limit);
            let step = step / run.size * run.size;
            if step == 0 {
                return Ok(false);
            }
            self.every_page(area, start, step, run.size)?;
            self.limit -= step;
            start += step;
            left -= step;
        }
        Ok(true)
    }

    /// Populates and counts a part that can only be base pages: there are as many faults as pages, or more, because
    /// other causes can only add.
    fn every_page(&mut self, area: &MappedArea, start: u64, len: u64, page: u64) -> Result<()> {
        let faults = self.all_of(area, start, len)?;
        let pages = len / page;
        if faults < pages {
            return Err(populated(area, start, len, faults));
        }
        self.found(area, start, len, |leaves| leaves.add(page, pages));
        Ok(())
    }

    /// Counts a run of leaves larger than a page. False if the limit ended it.
    fn large(&mut self, area: &MappedArea, run: Run, smaller: &LeafSizes) -> Result<bool> {
        for index in 0..run.count {
            let start = run.start + index * run.size;
            if self.is_one_leaf(area, start, run.size, smaller.base())? {
                self.found(area, start, run.size, |leaves| leaves.add(run.size, 1));
                continue;
            }
            if run.size > self.limit {
                self.result.broken = true;
                return Ok(false);
            }
            self.limit -= run.size;
            let before = (self.result, self.progressed);
            match self.parts(area, start, run.size, smaller) {
                // Faults of other causes can hide a leaf from a few probes. But then all of its parts are present.
                Err(error)
                    if error.kind() == ErrorKind::AlreadyPopulated
                        && self.has_hardly_begun(&before, smaller)
                        && self.is_all_there(area, start, run.size, smaller.base())? =>
                {
                    let Census {
                        faults, elapsed, ..
                    } = self.result;
                    self.result = Census {
                        faults,
                        elapsed,
                        ..before.0
                    };
                    self.progressed = before.1;
                    self.found(area, start, run.size, |leaves| leaves.add(run.size, 1));
                }
                counted => counted?,
            }
        }
        Ok(true)
    }

    /// Whether only a few parts of a block were counted since `before`, and none of them by base pages, so that most
    /// of the block is unchanged.
    fn has_hardly_begun(&self, before: &(Census, Progress), parts: &LeafSizes) -> bool {
        let (census, progress) = before;
        let page = parts.base();
        let new_pages = self.result.measured.count(page) - census.measured.count(page);
        let counted = self.progressed.done - progress.done;
        parts.as_slice().len() > 1 && new_pages == 0 && counted <= 8 * parts.largest()
    }

    /// Whether pages of a block take no more faults than when populated a second time.
    fn is_all_there(
        &mut self,
        area: &MappedArea,
        start: u64,
        size: u64,
        page: u64,
    ) -> Result<bool> {
        let (mut first, mut again) = (0, 0);
        for _ in 0..64 {
            let place = self.random.page(start, size, page);
            first += self.step(area, place, page)?.min(1);
            again += self.step(area, place, page)?.min(1);
        }
        Ok(first <= 2 * again + 2)
    }

    /// Whether a block is one leaf: one page of it takes a fault, and no other page does.
    fn is_one_leaf(&mut self, area: &MappedArea, start: u64, size: u64, page: u64) -> Result<bool> {
        self.install(area, start, size, page)?;
        let mut votes = Votes::default();
        let mut place = start + size - page;
        loop {
            let faults = self.probe(area, place, page)?;
            let again = match faults {
                0 => 0,
                _ => self.step(area, place, page)?,
            };
            votes.add(faults, again);
            if let Some(decision) = votes.decision() {
                return Ok(decision);
            }
            place = self.random.page(start, size, page);
        }
    }

    /// Populates a page of a block, which has to take a fault: an unpredictable page, unless a page of
    /// the block has already taken its fault.
    fn install(&mut self, area: &MappedArea, start: u64, size: u64, page: u64) -> Result<()> {
        let inside = |&&(place, faults): &&(u64, u64)| {
            faults > 0 && place.checked_sub(start).is_some_and(|at| at < size)
        };
        if self.known.iter().find(inside).is_some() {
            return Ok(());
        }
        let place = self.random.page(start, size, page);
        match self.probe(area, place, page)? {
            0 => Err(populated(area, place, page, 0)),
            _ => Ok(()),
        }
    }

    /// Populates a page out of order, and returns its faults.
    fn probe(&mut self, area: &MappedArea, place: u64, page: u64) -> Result<u64> {
        let faults = self.step(area, place, page)?;
        self.known.push((place, faults));
        Ok(faults)
    }

    /// Counts a block that does not look like one leaf, by leaves of the smaller `sizes`.
    fn parts(&mut self, area: &MappedArea, start: u64, size: u64, sizes: &LeafSizes) -> Result<()> {
        let part = sizes.largest();
        let Some(smaller) = sizes.below(part) else {
            return self.leaf_or_pages(area, start, size, part);
        };
        self.result.broken = true;
        for index in 0..size / part {
            let start = start + index * part;
            if smaller.as_slice().len() == 1 {
                self.leaf_or_pages(area, start, part, smaller.base())?;
            } else if self.is_one_leaf(area, start, part, smaller.base())? {
                self.found(area, start, part, |leaves| leaves.add(part, 1));
            } else {
                self.parts(area, start, part, &smaller)?;
            }
        }
        Ok(())
    }

    /// Counts a block that is either one leaf or base pages, by populating it whole.
    fn leaf_or_pages(&mut self, area: &MappedArea, start: u64, size: u64, page: u64) -> Result<()> {
        self.install(area, start, size, page)?;
        let faults = self.all_of(area, start, size)?;
        let pages = size / page;
        if faults >= pages {
            self.result.broken = true;
            self.found(area, start, size, |leaves| leaves.add(page, pages));
        } else if faults <= 1 + pages / 16 {
            // Other causes may add some. If nearly all of its pages had been present before, the first one,
            // which was unpredictable, would hardly have taken a fault.
            self.found(area, start, size, |leaves| leaves.add(size, 1));
        } else {
            return Err(populated(area, start, size, faults));
        }
        Ok(())
    }

    /// Populates all of `[address, address + len)`, and returns the faults, including earlier faults of parts
    /// of it.
    fn all_of(&mut self, area: &MappedArea, address: u64, len: u64) -> Result<u64> {
        let mut faults = 0;
        let mut done = 0;
        while done < len {
            let step = self.longest.min(len - done);
            faults += self.step(area, address + done, step)?;
            done += step;
        }
        self.known.retain(|&(page, earlier)| {
            let inside = address <= page && page - address < len;
            faults += if inside { earlier } else { 0 };
            !inside
        });
        Ok(faults)
    }

    /// Populates `len` bytes at an address of an area, and returns the number of faults.
    pub(super) fn step(&mut self, area: &MappedArea, address: u64, len: u64) -> Result<u64> {
        if (self.progress)(self.progressed).is_break() {
            return Err(Error::new(ErrorKind::Stopped, "the census was stopped"));
        }
        let offset = area.area.offset + (address - area.address());
        let span = self.mapping.span(offset, len)?;
        let refused = |errno| Error::call("getrusage", errno);
        let before = process::minor_faults().map_err(refused)?;
        let elapsed = self.populate.populate(&span)?;
        let after = process::minor_faults().map_err(refused)?;
        let faults = after.saturating_sub(before);
        self.result.faults = self.result.faults.saturating_add(faults);
        self.result.elapsed += elapsed;
        Ok(faults)
    }

    /// Records that `[address, address + len)` of an area is counted.
    pub(super) fn found(
        &mut self,
        area: &MappedArea,
        address: u64,
        len: u64,
        add: impl FnOnce(&mut Leaves),
    ) {
        let inside = |page: u64| address <= page && page - address < len;
        self.known.retain(|&(page, _)| !inside(page));
        let plan = self.mapping.plan();
        let offset = area.area.offset + (address - area.address());
        let hpa = plan.phys().behind(offset);
        add(&mut self.result.measured);
        // Steps end where runs do, or at least at a page. Cutting there can only split runs of
        // pages, so the parts add up to the whole.
        let leaves = leaf::leaves(address, hpa, len, &self.kernel_sizes);
        self.result.expected.add_all(&leaves);
        self.progressed.done += len;
    }
}

/// The error for fewer faults than leaves.
pub(super) fn populated(area: &MappedArea, address: u64, len: u64, faults: u64) -> Error {
    let operation = format!("{faults} faults for {len:#x} bytes at {address:#x}");
    Error::new(ErrorKind::AlreadyPopulated, operation)
        .on(format!("area {}", area.area))
        .with_remedy("it was populated before; map it again to count its leaves")
}
