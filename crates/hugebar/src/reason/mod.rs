//! Reasons: why a mapping has more leaves than the best possible, from the facts of this run.
//!
//! A reason is given only if the facts of the run support it. The count outweighs the version
//! number, because the THP gate differs between stable releases of the same kernel. Leaves that
//! no reason explains are reported as unexplained.

mod degraded;
mod placed;

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::facts::Facts;
use crate::leaf::Leaves;
use crate::mem::Mapping;

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
        reasons.push(degraded::degraded(evidence));
    }
    reasons.extend(placed::placed(evidence));
    reasons.extend(placed::best(evidence));
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
