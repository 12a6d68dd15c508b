//! What keeps a BAR from being larger: the window of a bridge above it.

use std::fmt;

use hugebar::leaf::Bytes;
use hugebar::pci::{Address, Function};

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

/// The fact, without what else lies in the window.
impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bridge, window) = (self.bridge, Bytes(self.window));
        write!(f, "bridge {bridge} has a window of {window}")
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
    let narrow = bridges.iter().filter_map(|bridge| {
        let window = bridge.window(is_prefetchable)?;
        let others = bridge.others(&window, function.address());
        let taken = others.iter().map(|own| own.resource.size);
        let taken = taken.fold(0_u64, u64::saturating_add);
        (window.size.saturating_sub(taken) < size).then_some((bridge, window, others))
    });
    let narrow: Vec<_> = narrow.collect();
    let shared = narrow.iter().find(|(_, _, others)| !others.is_empty());
    let (bridge, window, others) = shared.or(narrow.first())?;
    Some(Growth {
        bridge: bridge.function().address(),
        window: window.size,
        others: others.iter().map(Neighbour::of).collect(),
        remedy: remedy(&bridges, others),
    })
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
fn remedy(above: &[Bridge], others: &[Behind]) -> String {
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
