//! Sizes of BARs: which a BAR can have, and plans to change it.

use std::fs;
use std::io;

use hugebar::leaf::Bytes;
use hugebar::pci::{Address, Function};

use super::error::{Error, ErrorKind};
use super::options::Options;
use super::plan::{Plan, Undo};
use super::record::Record;
use super::set_size;
use super::step::{self, Step};
use super::tree::Tree;
use super::uses;
use crate::doctor::bytes;
use crate::show::{Growth, growth};

/// The sizes that a BAR can have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BarSizes {
    /// The function.
    pub device: Address,
    /// Its driver, which has to let go of it meanwhile.
    pub driver: Option<String>,
    /// The BAR's number.
    pub bar: u8,
    /// Its size in bytes; `None` if it has no address.
    pub size: Option<u64>,
    /// The sizes that it can have, ascending (`resourceN_resize`).
    pub sizes: Vec<PossibleSize>,
}

/// A size that a BAR can have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PossibleSize {
    /// The size in bytes.
    pub size: u64,
    /// The bridge whose window is too small for it and the function's other BARs, as it is now. The kernel enlarges it if
    /// nothing else lies in it and there is room above.
    pub narrow: Option<Growth>,
}

/// Finds the sizes that a BAR can have (`resourceN_resize`, Linux 5.19). Reading them wakes a sleeping device.
///
/// # Errors
///
/// [`ErrorKind::NotSupported`] if the BAR cannot be resized; if sysfs cannot be read.
pub fn bar_sizes(function: &Function, bar: u8) -> Result<BarSizes, Error> {
    look(&Tree::own(), function.address(), bar)
}

/// Plans to give a BAR another size in bytes, for which the driver lets go of the function meanwhile. What it had is
/// remembered as for [`super::bind`], so [`super::restore`] gives the function back if the process ends in between.
///
/// # Errors
///
/// [`ErrorKind::NotSupported`] if the BAR cannot be resized, [`ErrorKind::InvalidInput`] if it cannot have this size; if sysfs,
/// `/proc` or the record cannot be read.
pub fn resize(function: &Function, bar: u8, size: u64, options: &Options) -> Result<Plan, Error> {
    plan(&Tree::own(), function.address(), bar, size, options)
}

fn look(tree: &Tree, address: Address, bar: u8) -> Result<BarSizes, Error> {
    let function = tree.function(address)?;
    let path = tree.device(address).join(format!("resource{bar}_resize"));
    let mask = match fs::read_to_string(&path) {
        Ok(text) => u64::from_str_radix(text.trim(), 16).unwrap_or(0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(Error::call(path.display(), "read", &error)),
    };
    let powers = (0..u64::BITS).filter(|power| mask >> power & 1 == 1);
    let sizes: Vec<_> = powers.filter_map(bytes).collect();
    if sizes.is_empty() {
        return Err(fixed(tree, address, bar));
    }
    let line = set_size::size(tree, address, bar)?;
    let is_prefetchable = line.is_none_or(|line| line.is_prefetchable());
    let resources = function.resources()?;
    let others = resources.iter().take(6).enumerate();
    let others = others.filter_map(|(number, line)| {
        let line = line.filter(|line| line.is_memory() && number != usize::from(bar))?;
        (line.is_prefetchable() == is_prefetchable).then_some(line.size)
    });
    let others = others.fold(0_u64, u64::saturating_add);
    let sizes = sizes.into_iter().map(|size| PossibleSize {
        size,
        narrow: growth(&function, is_prefetchable, size.saturating_add(others)),
    });
    Ok(BarSizes {
        device: address,
        driver: function.driver()?,
        bar,
        size: line.map(|line| line.size),
        sizes: sizes.collect(),
    })
}

/// Why a BAR cannot be resized.
fn fixed(tree: &Tree, address: Address, bar: u8) -> Error {
    let folder = tree.device(address);
    let (what, remedy) = match folder.join("physfn").exists() {
        true => (
            format!("BAR {bar} of a virtual function cannot be resized alone"),
            "its physical function decides, for all of them",
        ),
        false => (
            format!(
                "BAR {bar} cannot be resized: the kernel has no file resource{bar}_resize for it"
            ),
            "hugebar doctor says if the device could do it: then the kernel is older than 5.19",
        ),
    };
    Error::new(ErrorKind::NotSupported, address, what).with_remedy(remedy)
}

fn plan(
    tree: &Tree,
    address: Address,
    bar: u8,
    size: u64,
    options: &Options,
) -> Result<Plan, Error> {
    let found = look(tree, address, bar)?;
    if found.sizes.iter().all(|own| own.size != size) {
        let possible = found.sizes.iter().map(|own| Bytes(own.size).to_string());
        let possible: Vec<_> = possible.collect();
        let what = format!("BAR {bar} cannot have {}", Bytes(size));
        let error = Error::new(ErrorKind::InvalidInput, address, what);
        return Err(error.with_remedy(format!("it can have {}", possible.join(", "))));
    }
    let record = Record::read(tree, address)?;
    let (mut steps, mut uses, mut back) = (Vec::new(), Vec::new(), Vec::new());
    if found.size != Some(size) {
        uses = uses::of(tree, &tree.function(address)?)?;
        if let Some(driver) = &found.driver {
            back.push(Step::Bind(address, driver.clone()));
            // A record that is there has the driver of before VFIO, and stays.
            if record.is_none() {
                let own = Record {
                    driver: found.driver.clone(),
                    driver_override: step::driver_override(tree, address)?,
                };
                steps.push(Step::Remember(address, own));
                back.push(Step::Forget(address));
            }
            steps.push(Step::Unbind(address));
        }
        steps.push(Step::Resize(address, bar, size));
        steps.extend(back.iter().cloned());
    }
    let undo = match back.is_empty() {
        true => Undo::Nothing,
        false => Undo::Steps(back, format!("hugebar restore {address}")),
    };
    Ok(Plan {
        uses,
        steps,
        undo,
        ..Plan::empty(tree, address, found.driver, record, options)
    })
}

#[cfg(test)]
#[path = "resize_tests.rs"]
mod tests;
