//! Why addresses give more leaves than the region needs at least.

use super::code::{Code, Reason};
use super::evidence::Evidence;
use crate::leaf::{self, Bytes, Leaves};
use crate::plan::Placement;

/// Why these addresses give more leaves than the best possible.
pub(super) fn placed(evidence: &Evidence<'_>) -> Option<Reason> {
    let (facts, mapping) = (evidence.facts, evidence.mapping);
    let plan = mapping.plan();
    let best = plan.best();
    // If large leaves were counted, the kernel has them, whatever its version.
    let huge = facts.features().huge_device_leaves();
    if huge == Some(false) && !evidence.gate_was_open() {
        let more = mapping.expected(&facts.device_leaf_sizes()).total() > best.total();
        return more.then(|| {
            Reason::new(
                Code::Kernel,
                format!(
                    "Linux {} maps device memory in base pages only",
                    facts.release
                ),
                "use Linux 6.12 or later",
            )
        });
    }
    if mapping.expected(&facts.leaf_sizes).total() <= best.total() {
        return None;
    }
    let planned = plan.shapes().iter().map(|shape| shape.alignment()).max();
    let planned = planned.unwrap_or(facts.leaf_sizes.base());
    let congruent = plan.placement() == Placement::Congruent;
    if congruent && mapping.alignment() < planned {
        return Some(Reason::new(
            Code::AddressSpace,
            format!(
                "address space was only available aligned to {} instead of {}",
                Bytes(mapping.alignment()),
                Bytes(planned)
            ),
            "raise RLIMIT_AS, or give a larger arena",
        ));
    }
    let largest = best.iter().rev().find(|(_, count)| *count > 0);
    let size = largest.map_or(facts.leaf_sizes.base(), |(size, _)| size);
    let off = mapping.areas().iter().find(|mapped| {
        let hpa = plan.phys().behind(mapped.area.offset);
        mapped.address() % size != hpa % size
    });
    let fact = match off {
        Some(mapped) => format!(
            "{:#x} is not congruent with its physical address modulo {}",
            mapped.address(),
            Bytes(size)
        ),
        None => format!(
            "the {} placement splits leaves at the edges of areas",
            plan.placement()
        ),
    };
    let remedy = if congruent {
        "reserve the window for this plan: it was made for another one"
    } else {
        "use the congruent placement"
    };
    Some(Reason::new(Code::Placement, fact, remedy))
}

/// Why even the best addresses need more leaves than a region of this size could have on such a
/// machine.
pub(super) fn best(evidence: &Evidence<'_>) -> Vec<Reason> {
    let plan = evidence.mapping.plan();
    let sizes = &evidence.facts.leaf_sizes;
    let mut reasons = Vec::new();
    if let Some(with_it) = sizes.missing() {
        let missing = with_it.largest();
        let leaves = plan.sum(&with_it, |area| plan.phys().behind(area.offset));
        if leaves.count(missing) > 0 {
            let mut fact = format!(
                "this machine has no {} leaves for device memory",
                Bytes(missing)
            );
            let mut remedy = "";
            if cfg!(target_arch = "x86_64") {
                remedy =
                    "use a CPU with pdpe1gb, which a virtual machine may need to have configured";
            } else {
                fact.push_str(": Linux has none on this architecture");
            }
            reasons.push(Reason::new(Code::Architecture, fact, remedy));
        }
    }
    reasons.extend(region(evidence));
    reasons.extend(holes(evidence));
    reasons
}

/// A reason in the size or address of the region itself.
fn region(evidence: &Evidence<'_>) -> Option<Reason> {
    let plan = evidence.mapping.plan();
    let sizes = &evidence.facts.leaf_sizes;
    let largest = sizes.largest();
    let leaf = Bytes(largest);
    let region = plan.layout().region_size();
    if largest == sizes.base() || whole(evidence).count(largest) > 0 {
        return None;
    }
    if region >= largest {
        return Some(Reason::new(
            Code::PhysUnaligned,
            format!("the region contains no whole {leaf} block of physical addresses"),
            "have firmware or kernel place the BAR at a multiple of its size",
        ));
    }
    let fact = format!(
        "a region of {} has no room for a {leaf} leaf",
        Bytes(region)
    );
    let large = |&size: &u64| size > sizes.base() && size <= region;
    let remedy = if sizes.as_slice().iter().any(large) {
        "enlarge the BAR if the device has resizable BARs"
    } else {
        ""
    };
    Some(Reason::new(Code::RegionSize, fact, remedy))
}

/// The holes as a reason.
fn holes(evidence: &Evidence<'_>) -> Option<Reason> {
    let (best, whole) = (evidence.mapping.plan().best(), whole(evidence));
    if best.total() <= whole.total() {
        return None;
    }
    // The largest size of which they cut leaves.
    let mut counts = whole.iter().rev();
    let (size, count) = counts.find(|&(size, count)| best.count(size) < count)?;
    let fact = format!(
        "holes cut {} of {count} blocks of {}: at best {} leaves instead of {}",
        count - best.count(size),
        Bytes(size),
        best.total(),
        whole.total()
    );
    Some(Reason::new(Code::Holes, fact, ""))
}

/// The leaves of the region without its holes, at the best addresses.
fn whole(evidence: &Evidence<'_>) -> Leaves {
    let plan = evidence.mapping.plan();
    let hpa = plan.phys().behind(0);
    leaf::leaves(
        hpa,
        hpa,
        plan.layout().region_size(),
        &evidence.facts.leaf_sizes,
    )
}
