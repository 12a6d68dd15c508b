//! What is known of processes that have mapped VFIO devices.

use hugebar::leaf::Leaves;
use hugebar::reason::Reason;

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
    /// The leaves that it can have on this kernel, in this process, at its address.
    pub possible: Leaves,
    /// The size of the largest of these.
    pub largest: u64,
    /// Whether it can have no fewer leaves than the best.
    pub optimal: bool,
    /// What was advised for it, where smaps was read.
    pub advice: Option<Advice>,
    /// Why it falls short, or what could not be told.
    pub reasons: Vec<Reason>,
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
    /// The device that it is of, where that is certain.
    pub fn device(&self) -> Option<&str> {
        match self.devices.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}
