//! Why leaves are smaller than their addresses allow.

use super::code::{Code, Reason};
use super::evidence::Evidence;
use crate::facts::{ThpDisabled, ThpPolicy};
use crate::phys::Phys;

/// Why leaves are smaller than their addresses allow.
pub(super) fn degraded(evidence: &Evidence<'_>) -> Reason {
    let closed = !evidence.gate_was_open();
    let process = closed.then(|| process(evidence)).flatten();
    let policy = || closed.then(|| policy(evidence)).flatten();
    // The policy is more likely than the rest only if this kernel may ask it.
    let rest = if evidence.facts.asks_thp_policy() == Some(false) {
        process.or_else(|| device(evidence)).or_else(policy)
    } else {
        process.or_else(policy).or_else(|| device(evidence))
    };
    let kernel = || closed.then(|| kernel(evidence)).flatten();
    rest.or_else(kernel)
        .unwrap_or_else(|| unexplained(evidence))
}

fn unexplained(evidence: &Evidence<'_>) -> Reason {
    let facts = evidence.facts;
    let policy = facts
        .thp
        .map_or("not built in".into(), |thp| thp.to_string());
    let fact = format!(
        "neither kernel ({}), THP policy ({policy}), prctl nor driver explains why leaves are smaller than \
         their addresses allow; the mapping is {}",
        facts.release,
        hint(evidence)
    );
    let remedy = "please report this with the output of this command and of dmesg";
    Reason::new(Code::Unexplained, fact, remedy)
}

fn hint(evidence: &Evidence<'_>) -> &'static str {
    if evidence.mapping.hinted() {
        "hinted"
    } else {
        "not hinted"
    }
}

/// A reason that closes the gate on every kernel that has one.
fn process(evidence: &Evidence<'_>) -> Option<Reason> {
    let facts = evidence.facts;
    if facts.thp.is_none() {
        return Some(Reason::new(
            Code::ThpNotBuiltIn,
            "this kernel has no transparent huge pages, which huge leaves need",
            "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
        ));
    }
    if evidence.mapping.no_hugepage() {
        return Some(Reason::new(
            Code::NoHugepage,
            "the mapping has MADV_NOHUGEPAGE, which every kernel honours",
            "map it without that advice",
        ));
    }
    let what = match facts.thp_disabled {
        ThpDisabled::Yes => "for this process",
        ThpDisabled::ExceptAdvised if !evidence.mapping.hinted() => {
            "for unhinted memory of this process"
        }
        _ => return None,
    };
    Some(Reason::new(
        Code::ThpDisabled,
        format!("PR_SET_THP_DISABLE has switched off huge pages {what}"),
        "it is inherited from the service manager or container runtime; the process can reset it \
         with prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), without privilege",
    ))
}

/// A THP policy that would give base pages if the kernel asks it.
fn policy(evidence: &Evidence<'_>) -> Option<Reason> {
    let facts = evidence.facts;
    let policy = facts.thp?;
    let remedy = match policy.allows(Some(evidence.mapping.hinted())) {
        Some(true) => return None,
        Some(false) if policy == ThpPolicy::Never => "set the policy to madvise",
        Some(false) => "hint with MADV_HUGEPAGE before anything touches the mapping",
        // An unreadable policy may have closed the gate only if the kernel may ask it.
        None if facts.asks_thp_policy() == Some(false) => return None,
        None => "show this process /sys/kernel/mm/transparent_hugepage",
    };
    let asks = match facts.asks_thp_policy() {
        Some(false) => "seems to ask the THP policy, although its version does not",
        Some(true) => "asks the THP policy",
        None => "seems to ask the THP policy",
    };
    let fact = format!(
        "Linux {} {asks}, which is {policy}, and the mapping is {}",
        facts.release,
        hint(evidence)
    );
    Some(Reason::new(Code::ThpPolicy, fact, remedy))
}

/// A kernel that may lack large leaves, and gave none.
fn kernel(evidence: &Evidence<'_>) -> Option<Reason> {
    let facts = evidence.facts;
    facts.features().huge_device_leaves().is_none().then(|| {
        Reason::new(
            Code::Kernel,
            format!(
                "Linux {} gave base pages only, and its release does not tell whether it has large leaves for device \
                 memory",
                facts.release
            ),
            "use Linux 6.12 or later, or ask the builder of this kernel whether they are backported to it",
        )
    })
}

/// A reason that lies with the device.
fn device(evidence: &Evidence<'_>) -> Option<Reason> {
    if evidence.mapping.plan().phys() == Phys::Unknown {
        return Some(Reason::new(
            Code::PhysUnknown,
            "the driver puts other memory, at an unknown physical address, in the BAR's place, so the alignment was guessed",
            "",
        ));
    }
    let driver = evidence.driver.filter(|driver| *driver != "vfio-pci")?;
    Some(Reason::new(
        Code::Driver,
        format!("the device is bound to {driver}, which may handle faults in its own way"),
        "bind the device to vfio-pci once nothing uses it any more",
    ))
}
