//! What is known about processes that have mapped VFIO devices.

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
    /// How many could not be read, because of missing privilege or a time-out.
    pub unreadable: u64,
    /// How many of these did not answer in time.
    pub timed_out: u64,
    /// Which processes may be hidden from this one; `None` if none are.
    pub hidden: Option<&'static str>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// Its name (`comm`). The process chooses it itself: print it by [`crate::escape::Escaped`].
    pub name: String,
    /// Whether transparent huge pages are off for it (`PR_SET_THP_DISABLE`); `None` if the kernel does not say.
    pub thp_disabled: Option<bool>,
    /// The size of its page tables in bytes (`VmPTE` of `/proc/PID/status`); `None` if the kernel does not say.
    pub page_tables: Option<u64>,
    /// Its mappings of VFIO devices, by address.
    pub mappings: Vec<Mapping>,
}

/// A mapping of a device, which is one VMA.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mapping {
    /// The first address.
    pub address: u64,
    /// The length in bytes.
    pub size: u64,
    /// The devices that it may belong to, by PCI address or name of a mediated device: one if that is certain,
    /// otherwise several or none.
    pub devices: Vec<String>,
    /// The driver of the device, if the device is certain.
    pub driver: Option<String>,
    /// The VFIO region, if known: 0 to 5 are BARs.
    pub region: Option<u32>,
    /// The offset within the region in bytes.
    pub offset: Option<u64>,
    /// The physical address of the first byte, if it lies in a BAR listed in sysfs.
    pub physical: Option<u64>,
    /// The largest leaf size modulo which virtual and physical address agree.
    pub congruent: u64,
    /// The leaves with this machine's sizes at the best address.
    pub best: Leaves,
    /// The leaves that are possible on this kernel, in this process and at this address, if the driver handles faults as
    /// `vfio-pci` does, or as the driver is known to.
    pub possible: Leaves,
    /// The size of the largest possible leaf.
    pub largest: u64,
    /// Whether the possible leaves are as few as the best. Never if the driver may handle faults in another way than
    /// `vfio-pci`, the alignment was guessed, or the page tables of the process contradict it.
    pub optimal: bool,
    /// The judgement on it.
    pub judgement: Judgement,
    /// Whether it is certain not to be populated in base pages throughout, because the process has fewer page tables than
    /// that takes. It then has larger leaves, or is populated in part or not at all. `false` proves nothing.
    pub not_in_base_pages: bool,
    /// Whether [`Mapping::possible`] follows from known facts about driver and alignment.
    pub(crate) follows_the_rule: bool,
    /// What was advised (`madvise`), if smaps was read.
    pub advice: Option<Advice>,
    /// Why it falls short, or what is not known.
    pub reasons: Vec<Reason>,
}

/// The judgement on a mapping whose leaves were not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Judgement {
    /// As few leaves are possible as at the best address, and nothing known prevents them.
    Optimal,
    /// The same by `vfio-pci`'s rule, but it is not certain that the rule holds for this driver, this kernel or this THP
    /// policy. Only a count can tell.
    NotCounted,
    /// It has more leaves than at the best address.
    FallsShort,
    /// The process has more page tables than the possible leaves and all its other mappings need: this or another device
    /// mapping of the process is populated in smaller leaves.
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
    /// How many processes this one may not read ([`crate::procfs::missing_privilege`]).
    pub fn refused(&self) -> u64 {
        self.unreadable.saturating_sub(self.timed_out)
    }

    /// The mappings of all processes.
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.processes.iter().flat_map(|process| &process.mappings)
    }
}

impl Mapping {
    /// Whether the possible leaves ([`Mapping::possible`]) meet a requirement. Never if they do not follow from known
    /// facts about the driver, or are contradicted.
    ///
    /// Doubt about the kernel or the THP policy does not count against it ([`Judgement::NotCounted`]).
    pub fn meets(&self, required: Requirement) -> bool {
        // No leaf is smaller than a base page, whoever installs it.
        let trivial =
            matches!(required, Requirement::Size(size) if size <= self.best.sizes().base());
        let sure = self.follows_the_rule && self.judgement != Judgement::Contradicted;
        (trivial || sure) && required.is_met(&self.best, &self.possible)
    }

    /// The device, if it is certain.
    pub fn device(&self) -> Option<&str> {
        match self.devices.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}
