//! What keeps a BAR from being larger: the window of a bridge above it.

use std::fmt;

use hugebar::leaf::Bytes;
use hugebar::pci::{Address, Function, Resource};
use hugebar::vfio::remedy;

use crate::bridge::{self, Behind, Bridge};
use crate::doctor::NO_ROOM;

/// What keeps a BAR from its largest size.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Growth {
    /// The bridge whose window is too small.
    pub bridge: Address,
    /// The size of that window in bytes.
    pub window: u64,
    /// What else lies in the window. The kernel enlarges only windows in which nothing else lies
    /// (`pci_reassign_bridge_resources`).
    pub others: Vec<Neighbour>,
    /// What would free it.
    pub remedy: String,
}

/// The fact, without what else lies in the window. `{:#}` adds that.
impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bridge, window) = (self.bridge, Bytes(self.window));
        write!(f, "bridge {bridge} has a window of {window}")?;
        if f.alternate() && !self.others.is_empty() {
            let others = self.others.iter();
            let others =
                others.map(|own| format!("{} BAR {} ({})", own.address, own.bar, Bytes(own.size)));
            let others: Vec<_> = others.collect();
            write!(f, ", shared with {}", others.join(", "))?;
        }
        Ok(())
    }
}

/// A BAR in the same window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Neighbour {
    /// Its function.
    pub address: Address,
    /// Its number.
    pub bar: usize,
    /// Its size in bytes.
    pub size: u64,
}

/// The bridge that keeps memory of a function from having this size: the nearest with something else in a window that is
/// too small, or else the nearest with such a window. `None` if all windows have room.
pub(crate) fn growth(function: &Function, is_prefetchable: bool, size: u64) -> Option<Growth> {
    let bridges = bridge::above(function);
    let narrow = narrow(&bridges, is_prefetchable, size, Some(function.address()));
    let shared = narrow.iter().find(|(_, _, others)| !others.is_empty());
    let (bridge, window, others) = shared.or(narrow.first())?;
    Some(Growth {
        bridge: bridge.function().address(),
        window: window.size,
        others: others.iter().map(Neighbour::of).collect(),
        remedy: taking_away(&bridges, others),
    })
}

/// The bridge that keeps virtual functions from having this much memory, beside all that their physical function and others
/// have in its window: the highest, because the kernel makes the windows of those below it anew with it.
pub(crate) fn of_virtual_functions(
    physical: &Function,
    is_prefetchable: bool,
    size: u64,
) -> Option<Growth> {
    let bridges = bridge::above(physical);
    let (bridge, window, others) = narrow(&bridges, is_prefetchable, size, None).pop()?;
    let bridge = bridge.function().address();
    Some(Growth {
        bridge,
        window: window.size,
        others: others.iter().map(Neighbour::of).collect(),
        remedy: format!(
            "remove the bridge with all devices behind it, whose users lose them, and the kernel makes its window anew (echo 1 \
             > /sys/bus/pci/devices/{bridge}/remove; echo 1 > /sys/bus/pci/rescan); or {}",
            remedy::NO_ADDRESS
        ),
    })
}

/// The bridges whose windows have less than `size` beside what lies in them, except what one function has there.
fn narrow(
    bridges: &[Bridge],
    is_prefetchable: bool,
    size: u64,
    except: Option<Address>,
) -> Vec<(&Bridge, Resource, Vec<Behind>)> {
    let narrow = bridges.iter().filter_map(|bridge| {
        let window = bridge.window(is_prefetchable)?;
        let others = bridge.others(&window, except);
        let taken = others.iter().map(|own| own.resource.size);
        let taken = taken.fold(0_u64, u64::saturating_add);
        (window.size.saturating_sub(taken) < size).then_some((bridge, window, others))
    });
    narrow.collect()
}

impl Neighbour {
    fn of(behind: &Behind) -> Self {
        Self {
            address: behind.address,
            bar: behind.bar,
            size: behind.resource.size,
        }
    }
}

/// What would free the window. A bridge above the function cannot be removed without it.
fn taking_away(above: &[Bridge], others: &[Behind]) -> String {
    let mut functions: Vec<_> = others.iter().map(|own| own.address).collect();
    functions.dedup();
    let is_above = |own: &Address| {
        let mut above = above.iter();
        above.any(|bridge| bridge.function().address() == *own)
    };
    if functions.is_empty() || functions.iter().any(is_above) {
        return NO_ROOM.to_owned();
    }
    let removed: Vec<_> = functions
        .iter()
        .map(|own| format!("echo 1 > /sys/bus/pci/devices/{own}/remove"))
        .collect();
    format!(
        "the kernel enlarges a window only if nothing else lies in it: take the others away ({}), resize, and bring them \
         back (echo 1 > /sys/bus/pci/rescan); or {NO_ROOM}",
        removed.join("; ")
    )
}
