//! What is known of processes that have mapped VFIO devices.

use std::fmt;

use hugebar::leaf::Leaves;
use hugebar::reason::Reason;
use hugebar::verdict::Requirement;

use crate::procfs::Advice;

/// The processes that were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// Those that have mapped a VFIO device, by their ids.
    pub processes: Vec<Process>,
    /// How many could not be read, for want of privilege or of an answer.
    pub unreadable: u64,
    /// How many of these did not answer in time.
    pub timed_out: u64,
    /// Which processes there may be that are not seen at all; `None` where all are.
    pub hidden: Option<&'static str>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name (`comm`), which it chooses itself: show it by [`crate::escape::Escaped`].
    pub name: String,
    /// Whether transparent huge pages are off for it (`PR_SET_THP_DISABLE`); `None` where the kernel does not
    /// tell.
    pub thp_disabled: Option<bool>,
    /// Bytes of all its page tables (`VmPTE` of `/proc/PID/status`); `None` where the kernel does not tell.
    pub page_tables: Option<u64>,
    /// Its mappings of VFIO devices, by address.
    pub mappings: Vec<Mapping>,
}

/// A mapping of a device, which is one VMA.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mapping {
    /// Its first address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// The devices that it can be of, by PCI address or the name of a mediated device: one where that is certain,
    /// several or none otherwise.
    pub devices: Vec<String>,
    /// The driver of the device, where that is certain.
    pub driver: Option<String>,
    /// The VFIO region, where it can be told: 0 to 5 are BARs.
    pub region: Option<u32>,
    /// Where it begins in the region, in bytes.
    pub offset: Option<u64>,
    /// Physical address of its first byte, where it lies in a BAR that sysfs has.
    pub physical: Option<u64>,
    /// The largest leaf size modulo which address and physical address agree.
    pub congruent: u64,
    /// The leaves that it could have with this machine's sizes at the best address.
    pub best: Leaves,
    /// The leaves that it can have on this kernel, in this process, at its address, if its driver handles faults as
    /// `vfio-pci` does, or as the driver is known to.
    pub possible: Leaves,
    /// The size of the largest of these.
    pub largest: u64,
    /// Whether it can have no more leaves than the best. Never where its driver may handle faults in another way
    /// than `vfio-pci`, its alignment was guessed, or its process's page tables contradict it.
    pub optimal: bool,
    /// What is to be thought of it.
    pub judgement: Judgement,
    /// Whether it is certain not to be populated in base pages throughout, because its process has fewer page tables
    /// than that takes. It has larger leaves then, or is not populated, or not all of it is. `false` proves nothing.
    pub not_in_base_pages: bool,
    /// Whether [`Mapping::possible`] follows from what is known of its driver and its alignment.
    pub(crate) follows_the_rule: bool,
    /// What was advised for it, where smaps was read.
    pub advice: Option<Advice>,
    /// Why it falls short, or what could not be told.
    pub reasons: Vec<Reason>,
}

/// What is to be thought of a mapping, of which nothing was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Judgement {
    /// It can have as few leaves as at the best address, and nothing is known to keep it from these.
    Optimal,
    /// By the rule of `vfio-pci` it can, but whether that holds for it is not known for certain: for its driver, this
    /// kernel or the THP policy. Only a count would tell.
    NotCounted,
    /// It has more leaves than at the best address.
    FallsShort,
    /// The page tables of its process are larger than the leaves need that it could have, and those of all other
    /// mappings: it, or another mapping of a device in that process, is populated in smaller leaves.
    Contradicted,
}

/// `optimal`, `not-counted`, `falls-short`, `contradicted`.
impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Optimal => "optimal",
            Self::NotCounted => "not-counted",
            Self::FallsShort => "falls-short",
            Self::Contradicted => "contradicted",
        })
    }
}

impl Inspection {
    /// How many this process may not read ([`crate::procfs::missing_privilege`]).
    pub fn refused(&self) -> u64 {
        self.unreadable.saturating_sub(self.timed_out)
    }

    /// The mappings of all processes.
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.processes.iter().flat_map(|process| &process.mappings)
    }
}

impl Mapping {
    /// Whether it meets what somebody requires, by the leaves that it can have ([`Mapping::possible`]): never where
    /// these do not follow from what is known of its driver, or are contradicted.
    ///
    /// What is not known for certain of the kernel or the THP policy is not held against it ([`Judgement::NotCounted`]).
    pub fn meets(&self, required: Requirement) -> bool {
        // No leaf is smaller than a page, whoever installs it.
        let trivial =
            matches!(required, Requirement::Size(size) if size <= self.best.sizes().base());
        let sure = self.follows_the_rule && self.judgement != Judgement::Contradicted;
        (trivial || sure) && required.is_met(&self.best, &self.possible)
    }

    /// The device that it is of, where that is certain.
    pub fn device(&self) -> Option<&str> {
        match self.devices.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}
