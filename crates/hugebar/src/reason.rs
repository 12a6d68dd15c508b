//! Reasons: why a mapping has more leaves than the best possible, from the facts of this run.
//!
//! A reason is given only if the facts of the run support it. The count outweighs the version
//! number, because the THP gate differs between stable releases of the same kernel. Leaves that
//! no reason explains are reported as unexplained.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::facts::{Facts, ThpDisabled, ThpPolicy};
use crate::leaf::{self, Bytes, Leaves};
use crate::mem::Mapping;
use crate::phys::Phys;
use crate::plan::Placement;

/// The kind of reason: stable, documented names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Code {
    /// The kernel predates huge leaves for device memory (Linux 6.12), or may lack them.
    Kernel,
    /// THP, which huge leaves for device memory need, is not built into the kernel.
    ThpNotBuiltIn,
    /// The THP policy limits unhinted mappings, or all mappings, to base pages.
    ThpPolicy,
    /// THP is disabled for this process (`PR_SET_THP_DISABLE`).
    ThpDisabled,
    /// The mapping has `MADV_NOHUGEPAGE`.
    NoHugepage,
    /// The addresses are not congruent with the physical ones.
    Placement,
    /// There was too little free address space for the plan's alignment.
    AddressSpace,
    /// The region is smaller than the largest leaf.
    RegionSize,
    /// This machine lacks a leaf size that would fit in the region.
    Architecture,
    /// Holes cut through blocks that could be one leaf.
    Holes,
    /// The physical address is not aligned to the largest leaf.
    PhysUnaligned,
    /// The physical address is unknown.
    PhysUnknown,
    /// It is unknown which device a mapping belongs to.
    Device,
    /// A driver other than `vfio-pci` handles the faults.
    Driver,
    /// The process's page tables are larger than the leaves need that it could have.
    PageTables,
    /// Memory decode of the device is off.
    DecodeOff,
    /// Nothing here can populate a BAR.
    NoPopulate,
    /// The leaves could not be counted.
    Unmeasured,
    /// Counting all of it would have populated more base pages than allowed.
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
            Self::PageTables => "page-tables",
            Self::DecodeOff => "decode-off",
            Self::NoPopulate => "no-populate",
            Self::Unmeasured => "unmeasured",
            Self::Limit => "limit",
            Self::Unexplained => "unexplained",
        })
    }
}

/// Why something fell short, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Reason {
    /// The kind of reason.
    pub code: Code,
    /// The finding, in one line.
    pub fact: String,
    /// What to do about it; empty if there is nothing to do.
    pub remedy: String,
}

impl Reason {
    /// Makes a reason.
    pub fn new(code: Code, fact: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code,
            fact: fact.into(),
            remedy: remedy.into(),
        }
    }
}

/// `thp-policy: fact; remedy`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.fact)?;
        match self.remedy.as_str() {
            "" => Ok(()),
            remedy => write!(f, "; {remedy}"),
        }
    }
}

/// The facts of a run about a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Machine, kernel and process.
    pub facts: &'a Facts,
    /// The mapping.
    pub mapping: &'a Mapping,
    /// The leaves that were counted, if any.
    pub measured: Option<&'a Leaves>,
    /// Whether some leaf turned out to be smaller than its addresses allow
    /// ([`crate::census::Census::broken`]).
    pub broken: bool,
    /// The device's driver, if known.
    pub driver: Option<&'a str>,
}

/// Explains why there are more leaves than this machine needs at least for a region of
/// this size; empty if there is nothing to explain.
pub fn explain(evidence: &Evidence<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if evidence.is_degraded() {
        reasons.push(degraded(evidence));
    }
    reasons.extend(placed(evidence));
    reasons.extend(best(evidence));
    reasons
}

/// Explains why the leaves of a mapping could not be counted, from the error of the census, and whether memory decode
/// of the device was on then ([`crate::vfio::Device::memory_decode`]), if known.
pub fn uncounted(error: &Error, decode: Option<bool>) -> Reason {
    if error.kind() == ErrorKind::NotMappableForDma && decode == Some(false) {
        return Reason::new(
            Code::DecodeOff,
            format!("{}, and memory decode of the device is off", error.fact()),
            "set bit 1 of the command register in configuration space",
        );
    }
    let remedy = error.remedy().unwrap_or("map it again and count again");
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

    /// Whether leaves larger than a page were counted where no smaller ones were expected: the
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

/// Why these addresses give more leaves than the best possible.
fn placed(evidence: &Evidence<'_>) -> Option<Reason> {
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
fn best(evidence: &Evidence<'_>) -> Vec<Reason> {
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
