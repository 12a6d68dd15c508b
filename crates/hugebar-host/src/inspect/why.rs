//! Why a mapping of a device has no better leaves, or what could not be told.

use hugebar::facts::{Facts, ThpGate, ThpPolicy};
use hugebar::leaf::{self, Bytes, Leaves};
use hugebar::reason::{Code, Reason};

use super::driver::Faults;
use super::held::Vma;
use super::observed::{Observed, largest};
use super::resolve::Resolved;

/// What to do where only a count would tell.
const COUNT: &str = "count the leaves of a device that is free, with hugebar map";

/// What the THP policy does to it, or may do, where there are larger leaves to lose.
fn policy_fact(own: &Observed<'_>, best: &Leaves, possible: &Leaves) -> Option<String> {
    let page = own.facts.leaf_sizes.base();
    let has_large = |leaves: &Leaves| largest(leaves) > Some(page);
    match own.gate() {
        ThpGate::Closed if has_large(best) => {}
        ThpGate::Unknown if has_large(possible) => {}
        _ => return None,
    }
    let Facts { release, .. } = own.facts;
    let policy = own.facts.thp?;
    let what = match (policy, own.advice) {
        (ThpPolicy::Never, _) => "pages only",
        (ThpPolicy::Madvise, Some(_)) => "it is not hinted, so pages only",
        (ThpPolicy::Madvise, None) => "pages only unless it is hinted",
        // What cannot be read is told by the report, which has the policy.
        (ThpPolicy::Always | ThpPolicy::Unknown, _) => return None,
    };
    let asks = match own.facts.asks_thp_policy() {
        Some(_) => "asks",
        None => "may ask",
    };
    Some(format!(
        "Linux {release} {asks} the THP policy, which is {policy}: {what}"
    ))
}

/// The reasons for a mapping with these leaves.
pub(crate) fn reasons(own: &Observed<'_>, best: &Leaves, possible: &Leaves) -> Vec<Reason> {
    let congruent = own.congruent();
    let Vma { start, size, .. } = *own.vma;
    let facts = own.facts;
    let mut reasons = Vec::new();
    let mut reason = |code, fact, remedy: &str| {
        let reason: Reason = Reason::new(code, fact, remedy);
        reasons.push(reason);
    };
    let short = possible.total() > best.total();
    if short && facts.device_leaf_sizes() != facts.leaf_sizes {
        let fact = format!("Linux {} maps device memory in pages only", facts.release);
        reason(Code::Kernel, fact, "use Linux 6.12 or later");
    }
    if short && facts.thp.is_none() {
        let fact = "this kernel has no transparent huge pages, and no large leaves without them";
        let remedy = "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE";
        reason(Code::ThpNotBuiltIn, fact.to_owned(), remedy);
    }
    if short && own.thp_disabled {
        let fact = "transparent huge pages are off for this process (PR_SET_THP_DISABLE)";
        let remedy = "start it without that setting, which is inherited, or have it call \
                      prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0) before it touches the mapping";
        reason(Code::ThpDisabled, fact.to_owned(), remedy);
    }
    if short && own.refused() {
        let fact = format!("{start:#x} is advised with MADV_NOHUGEPAGE");
        reason(
            Code::NoHugepage,
            fact,
            "have the program spare device memory that advice",
        );
    }
    if leaf::leaves(start, own.hpa, size, &facts.leaf_sizes).total() > best.total() {
        let agree = Bytes(congruent);
        let fact = format!("{start:#x} and its physical address agree modulo {agree} only");
        let remedy = "have the program map it at a congruent address, as hugebar does";
        reason(Code::Placement, fact, remedy);
    }
    let large = largest(possible) > Some(facts.leaf_sizes.base());
    if large && facts.features().huge_device_leaves().is_none() {
        let fact = format!(
            "Linux {} may map device memory in pages only: its release does not tell",
            facts.release
        );
        reason(Code::Kernel, fact, COUNT);
    }
    if let Some(fact) = policy_fact(own, best, possible) {
        let remedy = "set it to always, or to madvise and have the program hint before it touches the mapping";
        reason(Code::ThpPolicy, fact, remedy);
    }
    let Resolved {
        devices,
        faults,
        in_bar,
        ..
    } = &own.resolved;
    // Who maps base pages at once shows the physical address.
    if devices.len() == 1 && !in_bar && *faults != Faults::BasePages {
        let fact =
            format!("{start:#x} lies in no BAR that sysfs has, so its alignment was guessed");
        let remedy = "none where the driver puts other memory in the BAR's place; otherwise show this \
                      process /sys";
        reason(Code::PhysUnknown, fact, remedy);
    }
    if devices.len() != 1 {
        let fact = match devices.as_slice() {
            [] => format!("nothing that the process has open tells whose {start:#x} is"),
            several => {
                let names: Vec<_> = several.iter().map(|device| &*device.name).collect();
                format!("{start:#x} can be of {}", names.join(" or "))
            }
        };
        reason(
            Code::Device,
            fact,
            "have the program open devices by their own nodes (/dev/vfio/devices), which maps names",
        );
    }
    if let Some((fact, remedy)) = driver(own, short) {
        reason(Code::Driver, fact, remedy);
    }
    reasons
}

/// What the driver has to do with it, and what to do. A device that runs cannot be bound to another one.
fn driver(own: &Observed<'_>, short: bool) -> Option<(String, &'static str)> {
    let Resolved {
        devices, faults, ..
    } = &own.resolved;
    if devices.is_empty() || !own.has_room() {
        return None;
    }
    let bound = devices.iter().map(|device| match device.driver() {
        Some(driver) => format!("{} is bound to {driver}", device.name),
        None => format!("{} is bound to a driver that is not known", device.name),
    });
    let bound = bound.collect::<Vec<_>>().join(", ");
    match faults {
        Faults::ByCore if !short => {
            let how = "which leaves its faults to the code of vfio-pci, but nothing was counted";
            Some((format!("{bound}, {how}"), COUNT))
        }
        Faults::BasePages if short => {
            let how = "which maps the GPU's memory in base pages only before Linux 6.19";
            Some((format!("{bound}, {how}"), "use Linux 6.19 or later"))
        }
        Faults::Own => {
            let how = "which may handle faults in its own way, and nothing was counted";
            Some((format!("{bound}, {how}"), COUNT))
        }
        _ => None,
    }
}
