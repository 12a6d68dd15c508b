//! What a reason is: a code, a fact, and a remedy.

use std::fmt;

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
