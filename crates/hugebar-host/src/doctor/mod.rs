//! Checks everything between firmware and mapping, step by step, from sysfs and `/proc`.
//!
//! Each subject has a file. Each step has a documented name, a status, a fact and, unless it is ok, a
//! remedy. No device is opened, because that would reset it.

mod addresses;
mod bars;
mod device;
mod driver;
mod extended;
mod held;
mod holders;
mod iommu;
mod iov;
mod iov_sizes;
mod kernel;
mod memlock;
mod node;
mod power;
mod rebar;
mod reserved;
mod step;
mod thp;
mod vfio;

use hugebar::facts::Facts;
use hugebar::pci::Function;

use crate::error::Error;
use crate::procfs;

pub(crate) use bars::{NO_ROOM, resizable};
pub use iov::VirtualBar;
pub(crate) use iov::bars as virtual_bars;
pub(crate) use power::OFF;
pub(crate) use rebar::{Told, bytes};
pub use step::{Status, Step};

/// The steps for the host: IOMMU, interrupt remapping, VFIO, kernel, THP, locked memory.
///
/// What cannot be read is left out or reported as unknown.
///
/// # Errors
///
/// If this process has no `/proc` of its own.
pub fn host(facts: &Facts) -> Result<Vec<Step>, Error> {
    procfs::check().map_err(Error::file("/proc/self"))?;
    let mut steps = vec![iommu::step()];
    steps.extend(iommu::interrupt_remapping());
    steps.extend([vfio::step(), kernel::step(facts), thp::step(facts)]);
    steps.extend(memlock::step());
    Ok(steps)
}

/// The steps for a device: its driver, IOMMU group and nodes, the processes that have it, the sizes of its BARs, reset
/// and power state.
///
/// # Errors
///
/// If sysfs or `/proc` cannot be read.
pub fn device(function: &Function, facts: &Facts) -> Result<Vec<Step>, Error> {
    device::steps(function, facts)
}
