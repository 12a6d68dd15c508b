//! Reasons: why a mapping has more leaves than the best there could be, by what was seen in this run.
//!
//! A reason is given only where the facts of the run bear it out. What was counted beats what a version
//! number suggests, for the gate of THP differs between stable releases of the same kernel. Leaves that
//! no reason explains are said to be unexplained.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::facts::{Facts, ThpDisabled, ThpPolicy};
use crate::leaf::{self, Bytes, Leaves};
use crate::mem::Mapping;
use crate::phys::Phys;
use crate::plan::Placement;

/// What kind of reason it is: stable, documented names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Code {
    /// The kernel is older than huge leaves for device memory (Linux 6.12), or may lack them.
    Kernel,
    /// THP is not built into the kernel, and huge leaves for device memory with it.
    ThpNotBuiltIn,
    /// The THP policy keeps unhinted mappings, or all of them, to pages.
    ThpPolicy,
    /// THP is disabled for this process (`PR_SET_THP_DISABLE`).
    ThpDisabled,
    /// The mapping is advised with `MADV_NOHUGEPAGE`.
    NoHugepage,
    /// The addresses are not congruent with the physical ones.
    Placement,
    /// There were too few addresses for the alignment that the plan asked for.
    AddressSpace,
    /// The region is smaller than the largest leaf.
    RegionSize,
    /// This machine has no leaf as large as the region has room for.
    Architecture,
    /// Holes cut blocks that could have a leaf.
    Holes,
    /// The physical address is not aligned to the largest leaf.
    PhysUnaligned,
    /// The physical address is not known.
    PhysUnknown,
    /// It cannot be told which device a mapping is of.
    Device,
    /// A driver other than `vfio-pci` handles the faults.
    Driver,
    /// Memory decode of the device is off.
    DecodeOff,
    /// Nothing here can populate a BAR.
    NoPopulate,
    /// The leaves could not be counted.
    Unmeasured,
    /// Counting all of it would have populated more in pages than was allowed.
    Limit,
    /// None of the above.
    Unexplained,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::ThpNotBuiltIn => "thp-not-built-in",
            Self::ThpPolicy => "thp-policy",
            Self::ThpDisabled => "thp-disabled",
            Self::NoHugepage => "no-hugepage",
            Self::Placement => "placement",
            Self::AddressSpace => "address-space",
            Self::RegionSize => "region-size",
            Self::Architecture => "architecture",
            Self::Holes => "holes",
            Self::PhysUnaligned => "phys-unaligned",
            Self::PhysUnknown => "phys-unknown",
            Self::Device => "device",
            Self::Driver => "driver",
            Self::DecodeOff => "decode-off",
            Self::NoPopulate => "no-populate",
            Self::Unmeasured => "unmeasured",
            Self::Limit => "limit",
            Self::Unexplained => "unexplained",
        })
    }
}

/// Why something fell short: what was seen, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Reason {
    /// Which reason.
    pub code: Code,
    /// What was seen.
    pub fact: String,
    /// What to do about it.
    pub remedy: String,
}

impl Reason {
    /// A reason.
    pub fn new(code: Code, fact: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code,
            fact: fact.into(),
            remedy: remedy.into(),
        }
    }
}

/// `thp-policy: what was seen; what to do`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.code, self.fact, self.remedy)
    }
}

/// What a run has seen of a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Machine, kernel and process.
    pub facts: &'a Facts,
    /// The mapping.
    pub mapping: &'a Mapping,
    /// The leaves that were counted, if some were.
    pub measured: Option<&'a Leaves>,
    /// Whether some leaf turned out to be smaller than its addresses allow
    /// ([`crate::census::Census::broken`]).
    pub broken: bool,
    /// The driver that the device is bound to, where it is known.
    pub driver: Option<&'a str>,
}

/// The reasons why there are more leaves than the least that this machine could have for a region of
/// this size; none where there is nothing to explain.
pub fn explain(evidence: &Evidence<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if evidence.is_degraded() {
        reasons.push(degraded(evidence));
    }
    reasons.extend(placed(evidence));
    reasons.extend(best(evidence));
    reasons
}

/// Why the leaves of a mapping could not be counted: what the census said, and whether memory decode of
/// the device was on then ([`crate::vfio::Device::memory_decode`]), where that is known.
pub fn uncounted(error: &Error, decode: Option<bool>) -> Reason {
    if error.kind() == ErrorKind::NotMappableForDma && decode == Some(false) {
        return Reason::new(
            Code::DecodeOff,
            format!("{}, and memory decode of the device is off", error.fact()),
            "set bit 1 of the command register in configuration space",
        );
    }
    let remedy = error.remedy().unwrap_or("map it anew and count again");
    Reason::new(Code::Unmeasured, error.fact(), remedy)
}

impl Evidence<'_> {
    fn expected(&self) -> Leaves {
        self.mapping.expected(&self.facts.device_leaf_sizes())
    }

    fn is_degraded(&self) -> bool {
        let more = |measured: &Leaves| measured.total() > self.expected().total();
        self.broken || self.measured.is_some_and(more)
    }

    /// Whether leaves larger than a page are among those counted where smaller ones were not due: the
    /// gate lets all sizes through or none, so it was open.
    fn gate_was_open(&self) -> bool {
        let page = self.facts.leaf_sizes.base();
        let large = |leaves: &Leaves| leaves.iter().any(|(size, count)| size > page && count > 0);
        self.measured.is_some_and(large)
    }
}

/// Why leaves are smaller than their addresses allow.
fn degraded(evidence: &Evidence<'_>) -> Reason {
    let closed = !evidence.gate_was_open();
    let process = closed.then(|| process(evidence)).flatten();
    let policy = || closed.then(|| policy(evidence)).flatten();
    // The policy is likelier than the rest only where this kernel may ask it.
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
        "neither kernel ({}), THP policy ({policy}), prctl nor driver tells why leaves are smaller than \
         their addresses allow; the mapping is {}",
        facts.release,
        hint(evidence)
    );
    let remedy = "none is known; please report this with the output of this command and of dmesg";
    Reason::new(Code::Unexplained, fact, remedy)
}

fn hint(evidence: &Evidence<'_>) -> &'static str {
    if evidence.mapping.hinted() {
        "hinted"
    } else {
        "not hinted"
    }
}

/// What closes the gate on every kernel that has one.
fn process(evidence: &Evidence<'_>) -> Option<Reason> {
    let facts = evidence.facts;
    if facts.thp.is_none() {
        return Some(Reason::new(
            Code::ThpNotBuiltIn,
            "this kernel has no transparent huge pages, and no huge leaves without them",
            "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
        ));
    }
    if evidence.mapping.no_hugepage() {
        return Some(Reason::new(
            Code::NoHugepage,
            "the mapping is advised with MADV_NOHUGEPAGE, which every kernel heeds",
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
        format!("PR_SET_THP_DISABLE has switched huge pages off {what}"),
        "it is inherited from the service manager or container runtime; the process can switch it \
         back by prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), without privilege",
    ))
}

/// A THP policy that would give pages where the kernel asks it.
fn policy(evidence: &Evidence<'_>) -> Option<Reason> {
    let facts = evidence.facts;
    let policy = facts.thp?;
    let remedy = match policy.allows(Some(evidence.mapping.hinted())) {
        Some(true) => return None,
        Some(false) if policy == ThpPolicy::Never => "set the policy to madvise",
        Some(false) => "hint with MADV_HUGEPAGE before anything touches the mapping",
        // It is among what may have closed the gate only where the kernel is not known to leave it be.
        None if facts.asks_thp_policy() == Some(false) => return None,
        None => "show this process /sys/kernel/mm/transparent_hugepage",
    };
    let asks = match facts.asks_thp_policy() {
        Some(false) => "seems to ask the THP policy although its version does not",
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

/// A kernel of which it is not known whether it has large leaves at all, and that gave none.
fn kernel(evidence: &Evidence<'_>) -> Option<Reason> {
    let facts = evidence.facts;
    facts.features().huge_device_leaves().is_none().then(|| {
        Reason::new(
            Code::Kernel,
            format!(
                "Linux {} gave pages only, and its release does not tell whether it has large leaves of device \
                 memory",
                facts.release
            ),
            "use a kernel from Linux 6.12 or later, or ask who builds this one whether they are backported to it",
        )
    })
}

/// What lies with the device.
fn device(evidence: &Evidence<'_>) -> Option<Reason> {
    if evidence.mapping.plan().phys() == Phys::Unknown {
        return Some(Reason::new(
            Code::PhysUnknown,
            "the physical address of the region is not known, so its alignment was guessed",
            "none: the driver puts other memory in the BAR's place",
        ));
    }
    let driver = evidence.driver.filter(|driver| *driver != "vfio-pci")?;
    Some(Reason::new(
        Code::Driver,
        format!("the device is bound to {driver}, which may handle faults in its own way"),
        "bind the device to vfio-pci",
    ))
}

/// Why these addresses give more leaves than the best there could be.
fn placed(evidence: &Evidence<'_>) -> Option<Reason> {
    let (facts, mapping) = (evidence.facts, evidence.mapping);
    let plan = mapping.plan();
    let best = plan.best();
    // Large leaves that were counted are no pages, whatever the version.
    let huge = facts.features().huge_device_leaves();
    if huge == Some(false) && !evidence.gate_was_open() {
        let more = mapping.expected(&facts.device_leaf_sizes()).total() > best.total();
        return more.then(|| {
            Reason::new(
                Code::Kernel,
                format!("Linux {} maps device memory in pages only", facts.release),
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
                "addresses could be had only at {} instead of {}",
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
        "reserve the window by this plan: it was made for another one"
    } else {
        "use the congruent placement"
    };
    Some(Reason::new(Code::Placement, fact, remedy))
}

/// Why even the best addresses have more leaves than a machine like this, and a region of this size, could
/// have.
fn best(evidence: &Evidence<'_>) -> Vec<Reason> {
    let plan = evidence.mapping.plan();
    let sizes = &evidence.facts.leaf_sizes;
    let mut reasons = Vec::new();
    if let Some(with_it) = sizes.missing() {
        let missing = with_it.largest();
        let leaves = plan.sum(&with_it, |area| plan.phys().behind(area.offset));
        if leaves.count(missing) > 0 {
            let fact = format!(
                "this machine has no leaves of {} for device memory",
                Bytes(missing)
            );
            let remedy = "none on arm64, where Linux has none; on x86-64, a CPU with pdpe1gb, which a \
                          virtual machine may have to be given";
            reasons.push(Reason::new(Code::Architecture, fact, remedy));
        }
    }
    reasons.extend(region(evidence));
    reasons.extend(holes(evidence));
    reasons
}

/// What size or address of the region itself keep from it.
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
            format!("no {leaf} of physical addresses lie whole in the region"),
            "have firmware or kernel assign the BAR at a multiple of its size",
        ));
    }
    let fact = format!(
        "a region of {} has no room for a leaf of {leaf}",
        Bytes(region)
    );
    let large = |&size: &u64| size > sizes.base() && size <= region;
    let remedy = if sizes.as_slice().iter().any(large) {
        "a larger BAR, where the device has resizable BARs"
    } else {
        "none is needed: so small a BAR has few pages"
    };
    Some(Reason::new(Code::RegionSize, fact, remedy))
}

/// What holes keep from it.
fn holes(evidence: &Evidence<'_>) -> Option<Reason> {
    let (best, whole) = (evidence.mapping.plan().best(), whole(evidence));
    if best.total() <= whole.total() {
        return None;
    }
    // The largest size of which they cut some.
    let mut counts = whole.iter().rev();
    let (size, count) = counts.find(|&(size, count)| best.count(size) < count)?;
    let fact = format!(
        "holes cut {} of {count} blocks of {}: at best {} leaves instead of {}",
        count - best.count(size),
        Bytes(size),
        best.total(),
        whole.total()
    );
    let remedy = "none: the holes are there for a reason";
    Some(Reason::new(Code::Holes, fact, remedy))
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
