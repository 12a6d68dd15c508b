//! Installing a mapping's leaves anew, once they were taken away.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::leaf::{self, Run};
use crate::mem::{MappedArea, Mapping};
use crate::sys::process;

use super::Populate;

/// What it took to install the leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Installed {
    /// Minor faults: how many leaves had been missing. A few can be of other causes, such as a fork of
    /// another thread's. None means that all were there.
    pub faults: u64,
    /// How long the kernel took.
    pub elapsed: Duration,
}

/// Has the kernel install every leaf of a mapping that is missing.
///
/// Turning memory decode off, a reset, and runtime power management take all of them away, and each costs a
/// fault again when it is next accessed: a virtual machine monitor installs them before its guest does that,
/// once decode is on ([`crate::vfio::Device::memory_decode`]). Where nothing is missing it takes two steps for
/// each leaf, and says so by [`Installed::faults`].
///
/// # Errors
///
/// Whatever populating says: [`crate::ErrorKind::NotMappableForDma`] while memory decode is off.
pub fn install(mapping: &Mapping, populate: &mut dyn Populate) -> Result<Installed> {
    let plan = mapping.plan();
    let page = plan.sizes().base();
    let longest = (populate.longest() / page).max(1).saturating_mul(page);
    let mut work = Work {
        mapping,
        populate,
        longest,
        result: Installed::default(),
    };
    for area in mapping.areas() {
        let hpa = plan.phys().behind(area.area.offset);
        for run in leaf::runs(area.address(), hpa, area.area.size, plan.sizes()) {
            if run.size == page {
                work.all(area, run.start, run.count * run.size)?;
            } else {
                work.large(area, run, page)?;
            }
        }
    }
    Ok(work.result)
}

struct Work<'a> {
    mapping: &'a Mapping,
    populate: &'a mut dyn Populate,
    /// Bytes of the longest step.
    longest: u64,
    result: Installed,
}

impl Work<'_> {
    /// One page installs a whole leaf, unless the kernel gives smaller ones.
    fn large(&mut self, area: &MappedArea, run: Run, page: u64) -> Result<()> {
        for index in 0..run.count {
            let start = run.start + index * run.size;
            self.step(area, start, page)?;
            if self.step(area, start + run.size - page, page)? > 0 {
                self.all(area, start, run.size)?;
            }
        }
        Ok(())
    }

    fn all(&mut self, area: &MappedArea, start: u64, len: u64) -> Result<()> {
        let mut done = 0;
        while done < len {
            let step = self.longest.min(len - done);
            self.step(area, start + done, step)?;
            done += step;
        }
        Ok(())
    }

    /// Populates so many bytes, and tells the faults that it took.
    fn step(&mut self, area: &MappedArea, address: u64, len: u64) -> Result<u64> {
        let refused = |errno| Error::call("getrusage", errno);
        let offset = area.area.offset + (address - area.address());
        let span = self.mapping.span(offset, len)?;
        let before = process::minor_faults().map_err(refused)?;
        let elapsed = self.populate.populate(&span)?;
        let faults = process::minor_faults()
            .map_err(refused)?
            .saturating_sub(before);
        self.result.faults = self.result.faults.saturating_add(faults);
        self.result.elapsed += elapsed;
        Ok(faults)
    }
}
