//! Installs a mapping's leaves again after they were removed.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::leaf::{self, Run};
use crate::mem::{MappedArea, Mapping};
use crate::sys::process;

use super::Populate;

/// The result of installing the leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Installed {
    /// Minor faults: the number of missing leaves. A few faults can have other causes, such as another
    /// thread's fork. None means that no leaf was missing.
    pub faults: u64,
    /// How long the kernel took.
    pub elapsed: Duration,
}

/// Has the kernel install every missing leaf of a mapping.
///
/// Turning memory decode off, a reset, and runtime power management remove all leaves, and each costs a
/// fault again at its next access: a virtual machine monitor installs them before its guest accesses them,
/// once decode is on ([`crate::vfio::Device::memory_decode`]). If nothing is missing, this takes two steps for
/// each leaf, and [`Installed::faults`] is 0.
///
/// # Errors
///
/// Those of populating: [`crate::ErrorKind::NotMappableForDma`] while memory decode is off.
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
    /// The longest step, in bytes.
    longest: u64,
    result: Installed,
}

impl Work<'_> {
    /// Populates one page of each leaf, which installs the whole leaf unless the kernel uses smaller ones.
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

    /// Populates `len` bytes, and returns the number of faults.
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
