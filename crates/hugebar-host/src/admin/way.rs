//! The steps from one driver to another.

use hugebar::pci::Address;

use super::error::Error;
use super::record::Record;
use super::step::{self, Step};
use super::tree::Tree;

/// The steps to a driver of VFIO, from another one or none, with what is remembered so far.
pub(super) fn steps_to(
    tree: &Tree,
    address: Address,
    from: Option<String>,
    record: Option<&Record>,
    driver: &str,
) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    if !tree.driver(driver).exists() {
        steps.push(Step::Load(driver.to_owned()));
    }
    // The first driver counts. Where there is a record, the kernel may still have the device locked, and reading would wait.
    if record.is_none() {
        let record = Record {
            driver_override: step::driver_override(tree, address)?,
            driver: from.clone(),
        };
        steps.push(Step::Remember(address, record));
    }
    steps.push(Step::Override(address, Some(driver.to_owned())));
    steps.extend(from.map(|_| Step::Unbind(address)));
    steps.push(Step::Bind(address, driver.to_owned()));
    Ok(steps)
}

/// The steps to what a record says, from the driver that the function has now, wherever a process has stopped.
pub(super) fn steps_back(address: Address, driver: Option<String>, record: Record) -> Vec<Step> {
    let mut steps = vec![Step::Override(address, record.driver_override)];
    if driver != record.driver {
        steps.extend(driver.map(|_| Step::Unbind(address)));
        steps.extend(record.driver.map(|former| Step::Bind(address, former)));
    }
    steps.push(Step::Forget(address));
    steps
}

/// The steps to the driver that the kernel chooses.
pub(super) fn steps_to_any(address: Address, is_bound: bool) -> Vec<Step> {
    let mut steps = vec![Step::Override(address, None)];
    steps.extend(is_bound.then_some(Step::Unbind(address)));
    steps.push(Step::Probe(address));
    steps
}
