//! Makes a fresh mapping present, with one step for each leaf.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::leaf::{self, LeafSizes};
use crate::mem::Mapping;
use crate::sys::process;

use super::{Installed, Populate};

/// Has the kernel install the leaves of a mapping that has none, by populating one page of each: with
/// [`super::Type1`] one `VFIO_IOMMU_MAP_DMA` and one `VFIO_IOMMU_UNMAP_DMA` for each leaf. Runs of base pages are
/// populated as a whole.
///
/// This is the shortest way, because it relies on the kernel: `sizes` are the leaves that it has for this mapping
/// ([`crate::facts::Facts::device_leaf_sizes`], or only base pages if [`crate::facts::Facts::thp_gate`] is closed).
/// Where the kernel uses smaller ones, only a page of each leaf is present afterwards. [`super::install()`] also checks
/// that, in two steps for each leaf, and [`crate::census::census`] counts them.
///
/// [`Installed::elapsed`] is the time from begin to end, not only that of the kernel.
///
/// # Errors
///
/// Those of populating: [`crate::ErrorKind::NotMappableForDma`] while memory decode is off.
pub fn present(
    mapping: &Mapping,
    sizes: &LeafSizes,
    populate: &mut dyn Populate,
) -> Result<Installed> {
    let faults = || process::minor_faults().map_err(|errno| Error::call("getrusage", errno));
    let plan = mapping.plan();
    let page = plan.sizes().base();
    let longest = (populate.longest() / page).max(1).saturating_mul(page);
    let (begin, before) = (Instant::now(), faults()?);
    for area in mapping.areas() {
        let hpa = plan.phys().behind(area.area.offset);
        for run in leaf::runs(area.address(), hpa, area.area.size, sizes) {
            let offset = area.area.offset + (run.start - area.address());
            // A page of each leaf, or the run in long steps.
            let (step, len, bytes) = match run.size == page {
                true => (longest, longest, run.count.saturating_mul(page)),
                false => (run.size, page, run.count.saturating_mul(run.size)),
            };
            let mut done = 0;
            while done < bytes {
                let span = mapping.span(offset + done, len.min(bytes - done))?;
                populate.populate(&span)?;
                done = done.saturating_add(step);
            }
        }
    }
    Ok(Installed {
        faults: faults()?.saturating_sub(before),
        elapsed: begin.elapsed(),
    })
}
