//! Checks the way from firmware to mapping, one step after the other, from sysfs and `/proc`.
//!
//! Each subject has a file, and each step a documented name, a status, a fact and, where something is to be
//! done, a remedy. No device is opened, which would reset it.

mod addresses;
mod bars;
mod device;
mod driver;
mod extended;
mod held;
mod holders;
mod iommu;
mod iov;
mod kernel;
mod memlock;
mod node;
mod rebar;
mod reserved;
mod step;
mod thp;
mod vfio;

use hugebar::facts::Facts;
use hugebar::pci::Function;

use crate::error::Error;
use crate::procfs;

pub use step::{Status, Step};

/// The steps that concern no single device: IOMMU, interrupt remapping, VFIO, kernel, THP, locked memory.
///
/// What cannot be read is left out, or said to be unknown.
///
/// # Errors
///
/// When this process sees no `/proc` of its own.
pub fn host(facts: &Facts) -> Result<Vec<Step>, Error> {
    procfs::check().map_err(Error::file("/proc/self"))?;
    let mut steps = vec![iommu::step()];
    steps.extend(iommu::interrupt_remapping());
    steps.extend([vfio::step(), kernel::step(facts), thp::step(facts)]);
    steps.extend(memlock::step());
    Ok(steps)
}

/// The steps that concern a device: its driver, IOMMU group and nodes, who has it, the sizes of its BARs, reset
/// and power state.
///
/// # Errors
///
/// When sysfs or `/proc` cannot be read.
pub fn device(function: &Function, facts: &Facts) -> Result<Vec<Step>, Error> {
    device::steps(function, facts)
}
