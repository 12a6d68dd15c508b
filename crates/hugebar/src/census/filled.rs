//! Counts on kernels that fill a whole area at its first fault (before Linux 6.12).

use crate::error::{Error, ErrorKind, Result};
use crate::facts::Status;
use crate::leaf::{self, LeafSizes};
use crate::mem::MappedArea;

use super::count::{Count, populated};

/// How many other leaves of an area are tried at most: faults of other causes may interfere.
const TRIED: usize = 4;

impl Count<'_> {
    /// Counts an area on a kernel whose version is older than huge leaves for device memory.
    ///
    /// There the first fault fills a whole area with base pages. But the version may mislead: a distribution
    /// can have backported huge leaves.
    pub(super) fn old_kernel(&mut self, area: &MappedArea, sizes: &LeafSizes) -> Result<()> {
        // One fault cannot be interrupted.
        if area.area.size > self.limit {
            self.result.complete = false;
            return Ok(());
        }
        let page = sizes.base();
        let (start, size) = (area.address(), area.area.size);
        let pages = size / page;
        // While this is the only thread, no other can start.
        let before = Status::own().unwrap_or_default();
        let alone = before.threads == Some(1);
        let first = self.step(area, start, page)?;
        let after = Status::own().unwrap_or_default();
        if first == 0 {
            return Err(populated(area, start, page, 0));
        }
        self.known.push((start, first));
        let hpa = self.mapping.plan().phys().behind(area.area.offset);
        let leaves = leaf::leaves(start, hpa, size, sizes).total();
        let free = pages == 1 || self.another_without_a_fault(area, sizes)?;
        // Page tables that lie whole in the area are new, and exist only if it has base pages; the
        // rest of it could use tables of its neighbours.
        let table = page * (page / 8);
        let tables = (start + size) / table;
        let new_tables = tables.saturating_sub(start.div_ceil(table)) * page;
        let tables_grew = before
            .vm_pte
            .zip(after.vm_pte)
            .is_none_or(|(before, after)| after.saturating_sub(before) >= new_tables);
        if free && !tables_grew && !alone && leaves == 1 {
            let operation = "other threads may have changed the page tables meanwhile";
            let error = Error::new(ErrorKind::Miscounted, operation);
            let error = error.on(format!("area {}", area.area));
            return Err(error.with_remedy("map it again and count again"));
        }
        // If the page tables did not grow, but other threads share them and may have freed
        // some meanwhile, test a page under another leaf than the first one's.
        if free && (tables_grew || !alone) {
            self.limit -= size;
            self.found(area, start, size, |leaves| leaves.add(page, pages));
            return Ok(());
        }
        self.area(area, sizes)
    }

    /// Whether the last page of one of the last leaves takes no fault once the first leaf is installed.
    fn another_without_a_fault(&mut self, area: &MappedArea, sizes: &LeafSizes) -> Result<bool> {
        let hpa = self.mapping.plan().phys().behind(area.area.offset);
        let page = sizes.base();
        let runs: Vec<_> = leaf::runs(area.address(), hpa, area.area.size, sizes).collect();
        let leaves = runs.iter().rev().flat_map(|run| {
            let last = |index: u64| run.start + (run.count - index) * run.size - page;
            (0..run.count).map(last)
        });
        // A page of the first leaf would take no fault anyway.
        let total: u64 = runs.iter().map(|run| run.count).sum();
        let others = usize::try_from(total - 1).unwrap_or(usize::MAX);
        for place in leaves.take(others.clamp(1, TRIED)) {
            let faults = self.step(area, place, page)?;
            self.known.push((place, faults));
            if faults == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
