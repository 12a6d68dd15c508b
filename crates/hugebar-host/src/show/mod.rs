//! What is known about a PCI function and its BARs, from sysfs. Opens no device.

mod costs;
mod growth;
mod iommu;

use std::path::Path;

use hugebar::ErrorKind;
use hugebar::facts::Facts;
use hugebar::pci::{DirectRegion, Function, Iomem, Msix, Resource};

use crate::devices::{Described, DescribedBar};
use crate::doctor::{self, bytes};
use crate::error::Error;
use crate::pci_ids::PciIds;

pub use costs::{BarLeaves, PlacementCost, leaves};
pub use growth::{Growth, Neighbour};
pub(crate) use growth::{growth, of_virtual_functions};
pub use iommu::Iommu;

/// A function in detail.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shown {
    /// What `list` shows too.
    pub described: Described,
    /// Its memory BARs.
    pub bars: Vec<ShownBar>,
    /// The other members of its IOMMU group.
    pub members: Vec<Described>,
    /// Its MSI-X table.
    pub msix: Known<Option<Msix>>,
    /// The IOMMU that its memory accesses go through.
    pub iommu: Option<Iommu>,
    /// Ranges that firmware wants mapped one to one for its group.
    pub reserved: Known<Vec<DirectRegion>>,
    /// How many address bits a guest needs for its largest BAR, which it places above its memory; `None` without BARs.
    pub guest_bits: Option<u32>,
}

/// A memory BAR in detail.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShownBar {
    /// Number, address, size and kind.
    pub bar: DescribedBar,
    /// Other resources that hold a part of it, by name and, with privilege, address; those of a driver too, unless it is
    /// VFIO's.
    pub held_by: Option<String>,
    /// The sizes that it can have in bytes, ascending; empty if it cannot be resized.
    pub sizes: Known<Vec<u64>>,
    /// What keeps it from its largest size; `None` if nothing is known to.
    pub growth: Option<Growth>,
    /// What each placement costs on this kernel; empty for BARs smaller than a page.
    pub costs: Vec<PlacementCost>,
}

/// Something that may be hidden from this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// It is known.
    Yes(T),
    /// It takes privilege to find out.
    NeedsRoot,
    /// It cannot be found out; why.
    No(String),
}

impl<T> Known<T> {
    /// What is known, if anything.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Yes(value) => Some(value),
            _ => None,
        }
    }
}

/// Looks at a function. `iomem` is the machine's memory map ([`Iomem::read`]).
///
/// Reads its configuration space unless it is powered off, which wakes a sleeping device.
///
/// # Errors
///
/// If it has vanished, or its resources cannot be read.
pub fn show(
    function: &Function,
    facts: &Facts,
    ids: &PciIds,
    iomem: &Iomem,
) -> Result<Shown, Error> {
    let described = Described::of(function, ids)?;
    let resources = function.resources()?;
    let state = described.power_state.as_deref();
    let resizable = doctor::resizable(function, state);
    let bars = described.bars.iter().map(|own| {
        let conflict = iomem.conflict(function.address(), &resources, own.bar.into());
        let sizes = sizes(&resizable, own.bar);
        let largest = sizes.value().and_then(|sizes| sizes.last().copied());
        let grows = largest.filter(|largest| *largest > own.resource.size);
        ShownBar {
            bar: *own,
            held_by: conflict.map(|own| own.to_string()),
            growth: grows.and_then(|size| growth(function, own.resource.is_prefetchable(), size)),
            sizes,
            costs: costs::of(&own.resource, facts),
        }
    });
    Ok(Shown {
        bars: bars.collect(),
        members: members(function, ids),
        msix: msix(function, state),
        iommu: Iommu::of(function),
        reserved: match DirectRegion::of_function(function) {
            Ok(direct) => Known::Yes(direct),
            Err(error) => unknown(&error),
        },
        guest_bits: described
            .largest()
            .and_then(|own| guest_bits(&own.resource)),
        described,
    })
}

fn unknown<T>(error: &hugebar::Error) -> Known<T> {
    match error.kind() {
        ErrorKind::PermissionDenied => Known::NeedsRoot,
        _ => Known::No(error.fact()),
    }
}

/// The sizes of a BAR, from what doctor finds about all of them.
pub(crate) fn sizes(
    resizable: &Result<(doctor::Told, bool), doctor::Step>,
    bar: u8,
) -> Known<Vec<u64>> {
    let told = match resizable {
        Ok((told, _)) => told,
        Err(step) if step.fact.ends_with("<needs root>") => return Known::NeedsRoot,
        Err(step) => return Known::No(step.fact.clone()),
    };
    if told.unknown.contains(&bar.into()) {
        return Known::No("its possible sizes are unknown".to_owned());
    }
    let own = told.resizable.iter().find(|own| own.bar == u32::from(bar));
    let sizes = own.map_or(0, |own| own.sizes);
    let powers = (0..u64::BITS).filter(|power| sizes >> power & 1 == 1);
    Known::Yes(powers.filter_map(bytes).collect())
}

fn msix(function: &Function, state: Option<&str>) -> Known<Option<Msix>> {
    if state == Some(doctor::OFF) {
        return Known::No("the device is powered off".to_owned());
    }
    match function.msix() {
        Ok(found) => Known::Yes(found),
        Err(error) => unknown(&error),
    }
}

fn members(function: &Function, ids: &PciIds) -> Vec<Described> {
    let folder = function.folder().join("iommu_group/devices");
    let members = all_in(&folder).into_iter();
    let members = members.filter(|member| member.address() != function.address());
    members
        .filter_map(|member| Described::of(&member, ids).ok())
        .collect()
}

fn all_in(folder: &Path) -> Vec<Function> {
    Function::all_in(folder).unwrap_or_default()
}

/// A BAR lies at a multiple of its size, and not at 0: its end is at least at twice its size.
fn guest_bits(largest: &Resource) -> Option<u32> {
    let end = largest.size.checked_next_power_of_two()?.checked_mul(2)?;
    Some(end.ilog2())
}

#[cfg(test)]
mod tests;
