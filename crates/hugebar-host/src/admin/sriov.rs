//! Virtual functions: which there are, the room for their BARs, and plans to create and remove them.

use std::fs;

use hugebar::leaf::Bytes;
use hugebar::pci::{Address, Function};
use hugebar::vfio::{is_vfio, remedy};

use super::error::{Error, ErrorKind};
use super::options::Options;
use super::plan::{Plan, Undo};
use super::record::Record;
use super::step::Step;
use super::tree::Tree;
use super::uses::{self, Use};
use crate::doctor::{VirtualBar, virtual_bars};
use crate::show::{self, Growth};
use crate::sysfs::{self, text};

/// The virtual functions of a physical function.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VirtualFunctions {
    /// The physical function.
    pub device: Address,
    /// Its driver, which creates and removes them.
    pub driver: Option<String>,
    /// How many it can have (`sriov_totalvfs`, which its driver may have lowered).
    pub total: u16,
    /// Those that there are, with their drivers.
    pub functions: Vec<(Address, Option<String>)>,
    /// Their BARs.
    pub bars: Vec<VirtualBar>,
    /// The window that is too small for those of their BARs that have no address, as far as that can be told.
    pub narrow: Option<Growth>,
}

/// Looks at the virtual functions of a physical function.
///
/// # Errors
///
/// [`ErrorKind::NotSupported`] if it cannot have any; if sysfs cannot be read.
pub fn virtual_functions(function: &Function) -> Result<VirtualFunctions, Error> {
    look(&Tree::own(), function.address())
}

/// Plans to create `number` virtual functions, or to remove all of them (0). The kernel knows no other way from one number
/// to another than through 0, which takes [`Options::force`].
///
/// # Errors
///
/// [`ErrorKind::NotSupported`] if function or driver cannot have any, [`ErrorKind::InvalidInput`] if it cannot have so many,
/// [`ErrorKind::NoSpace`] if the kernel has found no room for their BARs; if sysfs, `/proc` or the record cannot be read.
pub fn set_virtual_functions(
    function: &Function,
    number: u16,
    options: &Options,
) -> Result<Plan, Error> {
    plan(&Tree::own(), function.address(), number, options)
}

fn look(tree: &Tree, address: Address) -> Result<VirtualFunctions, Error> {
    let function = tree.function(address)?;
    let folder = tree.device(address);
    let Ok(total) = text(folder.join("sriov_totalvfs")).parse() else {
        return Err(incapable(&function, tree));
    };
    let functions = sysfs::virtual_functions(&folder).into_iter();
    let functions = functions.map(|own| Ok((own, tree.function(own)?.driver()?)));
    let bars = virtual_bars(&function)?;
    Ok(VirtualFunctions {
        device: address,
        driver: function.driver()?,
        total,
        functions: functions.collect::<hugebar::Result<_>>()?,
        narrow: narrow(&function, &bars),
        bars,
    })
}

/// The window that is too small for the BARs without an address, beside those that have one.
fn narrow(function: &Function, bars: &[VirtualBar]) -> Option<Growth> {
    let of_kind = |is_prefetchable: bool| {
        let of_kind = bars.iter();
        let of_kind = of_kind.filter(|bar| bar.prefetchable == is_prefetchable);
        of_kind.clone().find(|bar| bar.address.is_none())?;
        let needed = of_kind.map(|bar| bar.all.unwrap_or(0));
        let needed = needed.fold(0, u64::saturating_add);
        show::of_virtual_functions(function, is_prefetchable, needed)
    };
    of_kind(true).or_else(|| of_kind(false))
}

fn incapable(function: &Function, tree: &Tree) -> Error {
    let address = function.address();
    let physical = fs::read_link(tree.device(address).join("physfn")).ok();
    let physical = physical.and_then(|link| Some(link.file_name()?.to_str()?.to_owned()));
    let (what, remedy) = match physical {
        Some(physical) => (
            format!("it is a virtual function itself, of {physical}"),
            format!("hugebar vf {physical}"),
        ),
        None => (
            "it cannot have virtual functions: it has no SR-IOV capability".to_owned(),
            "if the device should have one: turn on SR-IOV in its firmware and in the machine's"
                .to_owned(),
        ),
    };
    Error::new(ErrorKind::NotSupported, address, what).with_remedy(remedy)
}

fn plan(tree: &Tree, address: Address, number: u16, options: &Options) -> Result<Plan, Error> {
    let found = look(tree, address)?;
    let former = u16::try_from(found.functions.len()).unwrap_or(u16::MAX);
    let (mut uses, mut steps) = (Vec::new(), Vec::new());
    let mut undo = Undo::Nothing;
    if former != number {
        check(tree, &found, number)?;
        if former > 0 {
            uses = uses_of(tree, &found)?;
            steps.push(Step::VirtualFunctions(address, 0));
            // What bind remembers about them would be wrong for others that get their addresses.
            for (own, _) in &found.functions {
                let record = Record::read(tree, *own)?;
                steps.extend(record.map(|_| Step::Forget(*own)));
            }
        }
        if number > 0 {
            steps.push(Step::VirtualFunctions(address, number));
        }
        if former > 0 && number > 0 {
            let fact = format!(
                "it has {former} virtual functions, and the kernel changes their number only by way of 0"
            );
            let remedy = format!("remove them first (hugebar vf {address} 0)");
            uses.push(Use::new("virtual-functions", fact, remedy));
            let back = vec![Step::VirtualFunctions(address, former)];
            undo = Undo::Steps(back, format!("hugebar vf {address} {former}"));
        }
    }
    let record = Record::read(tree, address)?;
    Ok(Plan {
        uses,
        steps,
        undo,
        ..Plan::empty(tree, address, found.driver, record, options)
    })
}

/// What the virtual functions are in use for.
fn uses_of(tree: &Tree, found: &VirtualFunctions) -> Result<Vec<Use>, Error> {
    let mut all = Vec::new();
    for (address, _) in &found.functions {
        for own in uses::of(tree, &tree.function(*address)?)? {
            all.push(Use {
                fact: format!("{address}: {}", own.fact),
                ..own
            });
        }
    }
    Ok(all)
}

/// Whether driver and BARs allow this number.
fn check(tree: &Tree, found: &VirtualFunctions, number: u16) -> Result<(), Error> {
    let refused = |kind, what: String, remedy: String| {
        Err(Error::new(kind, found.device, what).with_remedy(remedy))
    };
    if number > found.total {
        let kind = match found.total {
            0 => ErrorKind::NotSupported,
            _ => ErrorKind::InvalidInput,
        };
        let what = format!("it can have {} virtual functions at most", found.total);
        let remedy = "its firmware or driver sets the limit (sriov_totalvfs)".to_owned();
        return refused(kind, what, remedy);
    }
    let parameter = tree.path("sys/module/vfio_pci/parameters/enable_sriov");
    let without = match found.driver.as_deref() {
        None => "it has no driver, and only a driver creates and removes virtual functions",
        Some("vfio-pci") if number > 0 && text(&parameter) == "N" => {
            "vfio-pci creates no virtual functions unless its parameter enable_sriov is set"
        }
        Some(_) => "",
    };
    if !without.is_empty() {
        let remedy = match found.driver.as_deref() {
            Some(driver) if is_vfio(driver) => {
                "echo Y > /sys/module/vfio_pci/parameters/enable_sriov"
            }
            _ => "bind its own driver, pci-pf-stub, or vfio-pci with its parameter enable_sriov",
        };
        return refused(
            ErrorKind::NotSupported,
            without.to_owned(),
            remedy.to_owned(),
        );
    }
    let lacking = found.bars.iter().filter(|bar| bar.address.is_none());
    let lacking: Vec<_> = lacking.map(named).collect();
    if number == 0 || lacking.is_empty() {
        return Ok(());
    }
    let what = format!(
        "the kernel has found no room for {} of its virtual functions, so it creates none",
        lacking.join(", ")
    );
    match &found.narrow {
        None => {
            let remedy = format!("turn on SR-IOV in the firmware; {}", remedy::NO_ADDRESS);
            refused(ErrorKind::NoSpace, what, remedy)
        }
        Some(own) => {
            let what = format!("{what}: {own:#}");
            refused(ErrorKind::NoSpace, what, own.remedy.clone())
        }
    }
}

/// A BAR, and the size that the kernel looks for.
fn named(bar: &VirtualBar) -> String {
    match bar.all {
        Some(all) => format!("BAR {} ({} for all)", bar.bar, Bytes(all)),
        None => format!("BAR {}", bar.bar),
    }
}

#[cfg(test)]
#[path = "sriov_tests.rs"]
mod tests;
