//! Why a device mapping falls short of the best leaves, or what is not known.

use hugebar::facts::{Facts, ThpGate, ThpPolicy};
use hugebar::leaf::{self, Bytes, Leaves};
use hugebar::reason::{Code, Reason};

use super::driver::Faults;
use super::held::Vma;
use super::observed::{Observed, largest};
use super::resolve::Resolved;

/// The remedy where only a count can decide.
const COUNT: &str = "count the leaves of an unused device of this kind with hugebar map";

/// What the THP policy does to a mapping that could have larger leaves.
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
        (ThpPolicy::Never, _) => "base pages only",
        (ThpPolicy::Madvise, Some(_)) => "without the hint, base pages only",
        (ThpPolicy::Madvise, None) => "base pages only unless hinted",
        // The report shows the policy, also one that could not be read.
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

/// The reasons why a mapping has these leaves.
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
        let fact = format!(
            "Linux {} maps device memory in base pages only",
            facts.release
        );
        reason(Code::Kernel, fact, "use Linux 6.12 or later");
    }
    if short && facts.thp.is_none() {
        let fact =
            "this kernel is built without transparent huge pages, and so without large leaves";
        let remedy = "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE";
        reason(Code::ThpNotBuiltIn, fact.to_owned(), remedy);
    }
    if short && own.thp_disabled {
        let fact = "transparent huge pages are off for this process (PR_SET_THP_DISABLE)";
        let remedy = "start it without that setting (children inherit it), or have it call \
                      prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0) before it touches the mapping";
        reason(Code::ThpDisabled, fact.to_owned(), remedy);
    }
    if short && own.refused() {
        let fact = format!("{start:#x} is advised with MADV_NOHUGEPAGE");
        reason(
            Code::NoHugepage,
            fact,
            "change the program not to give device memory that advice",
        );
    }
    if leaf::leaves(start, own.hpa, size, &facts.leaf_sizes).total() > best.total() {
        let agree = Bytes(congruent);
        let fact = format!("{start:#x} and its physical address agree only modulo {agree}");
        let remedy =
            "change the program to map it at a congruent address, as the hugebar library does";
        reason(Code::Placement, fact, remedy);
    }
    let large = largest(possible) > Some(facts.leaf_sizes.base());
    if large && facts.features().huge_device_leaves().is_none() {
        let fact = format!(
            "Linux {} may map device memory in base pages only: its release does not say",
            facts.release
        );
        reason(Code::Kernel, fact, COUNT);
    }
    if let Some(fact) = policy_fact(own, best, possible) {
        let remedy = "set the policy to always, or to madvise and change the program to hint before it touches the mapping";
        reason(Code::ThpPolicy, fact, remedy);
    }
    let Resolved {
        devices,
        faults,
        in_bar,
        ..
    } = &own.resolved;
    // A driver that maps base pages at once shows the physical address.
    if devices.len() == 1 && !in_bar && *faults != Faults::BasePages {
        let fact =
            format!("{start:#x} lies in no BAR listed in sysfs, so its alignment was guessed");
        let remedy =
            "let this process see /sys; if it does, the driver replaces the BAR by other memory";
        reason(Code::PhysUnknown, fact, remedy);
    }
    if devices.len() != 1 {
        let fact = match devices.as_slice() {
            [] => format!("no open file of the process identifies the device of {start:#x}"),
            several => {
                let names: Vec<_> = several.iter().map(|device| &*device.name).collect();
                format!("{start:#x} can belong to {}", names.join(" or "))
            }
        };
        reason(
            Code::Device,
            fact,
            "change the program to open devices by their own nodes (/dev/vfio/devices), which identify them",
        );
    }
    if let Some((fact, remedy)) = driver(own, short) {
        reason(Code::Driver, fact, remedy);
    }
    reasons
}

/// What the driver has to do with it, and the remedy. Binding another driver is none: the device is in use.
fn driver(own: &Observed<'_>, short: bool) -> Option<(String, &'static str)> {
    let Resolved {
        devices, faults, ..
    } = &own.resolved;
    if devices.is_empty() || !own.has_room() {
        return None;
    }
    let bound = devices.iter().map(|device| match device.driver() {
        Some(driver) => format!("{} is bound to {driver}", device.name),
        None => format!("the driver of {} is not known", device.name),
    });
    let bound = bound.collect::<Vec<_>>().join(", ");
    match faults {
        Faults::ByCore if !short => {
            let how = "which uses vfio-pci's fault handler, but nothing was counted";
            Some((format!("{bound}, {how}"), COUNT))
        }
        Faults::BasePages if short => {
            let how = "which before Linux 6.19 maps the GPU's memory in base pages only";
            Some((format!("{bound}, {how}"), "use Linux 6.19 or later"))
        }
        Faults::Own => {
            let how = "which may handle faults in its own way, and nothing was counted";
            Some((format!("{bound}, {how}"), COUNT))
        }
        _ => None,
    }
}
