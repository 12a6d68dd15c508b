//! Looks at processes, one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use hugebar::facts::Facts;
use hugebar::pci::Address;

use super::held;
use super::judge::judge;
use super::mapping::{Inspection, Process};
use super::nodes::Nodes;
use super::observed::Observed;
use super::resolve::{Host, OpenDevices, Resolved};
use super::tables;
use crate::error::Error;
use crate::procfs::{self, look};

/// Looks at the device mappings of processes.
///
/// Reads `maps`, `status`, `comm`, `fd` and `fdinfo` of each, which disturbs no process. Root sees all processes.
pub struct Inspector<'a> {
    facts: &'a Facts,
    nodes: Arc<Nodes>,
    device: Option<String>,
    before_smaps: Option<BeforeSmaps<'a>>,
}

/// Called with id and name of a process before its smaps is read.
type BeforeSmaps<'a> = Box<dyn FnMut(u32, &str) + 'a>;

impl<'a> Inspector<'a> {
    /// Reads `/sys/class` and `/dev/vfio` to identify VFIO's device files.
    ///
    /// # Errors
    ///
    /// If this process sees no `/proc`.
    pub fn new(facts: &'a Facts) -> Result<Self, Error> {
        procfs::check().map_err(Error::file("/proc/self"))?;
        Ok(Self {
            facts,
            nodes: Arc::new(Nodes::observe()),
            device: None,
            before_smaps: None,
        })
    }

    /// Reports only mappings that belong, or may belong, to this device.
    #[must_use]
    pub fn of_device(mut self, device: Address) -> Self {
        self.device = Some(device.to_string());
        self
    }

    /// Reads smaps too, the only source for the `madvise` flags of a mapping. This removes all 1 GiB
    /// leaves of each process that has such a mapping; `before` is called with its id and name first.
    #[must_use]
    pub fn reading_smaps(mut self, before: impl FnMut(u32, &str) + 'a) -> Self {
        self.before_smaps = Some(Box::new(before));
        self
    }

    /// All readable processes with such mappings, by id; unreadable ones are counted.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be read.
    pub fn all(&mut self) -> Result<Inspection, Error> {
        let mut inspection = Inspection {
            hidden: procfs::hidden_processes(),
            ..Inspection::default()
        };
        for pid in procfs::pids().map_err(Error::file("/proc"))? {
            match self.look_at(pid) {
                Ok(process) if process.mappings.is_empty() => (),
                Ok(process) => inspection.processes.push(process),
                Err(error) if procfs::has_ended(&error) => (),
                Err(error) => {
                    inspection.unreadable += 1;
                    inspection.timed_out += u64::from(procfs::has_timed_out(&error));
                }
            }
        }
        Ok(inspection)
    }

    /// One process by id, with or without such mappings.
    ///
    /// # Errors
    ///
    /// If there is no such process, it does not answer, or it may not be read.
    pub fn only(&mut self, pid: u32) -> Result<Inspection, Error> {
        let process = self.look_at(pid);
        let process = process.map_err(|source| Error::Process { pid, source })?;
        Ok(Inspection {
            processes: vec![process],
            ..Inspection::default()
        })
    }

    fn look_at(&mut self, pid: u32) -> io::Result<Process> {
        let nodes = Arc::clone(&self.nodes);
        let page = self.facts.leaf_sizes.base();
        let (open, vmas, name, status, tables) = look(pid, move |process| {
            let open = held::open(process, &nodes)?;
            let (vmas, status, tables) = tables::observe(
                page,
                || process.status(),
                |others| held::mapped(process, &nodes, &open, |other| others.add(other)),
                |vmas| vmas.iter().map(|vma| vma.size).fold(0, u64::saturating_add),
            )?;
            Ok((open, vmas, process.name(), status, tables))
        })?;
        // A kernel without THP reports it as not enabled, but it was not disabled either.
        let enabled = status.thp_enabled.filter(|_| self.facts.thp.is_some());
        let mut process = Process {
            pid,
            name,
            thp_disabled: enabled.map(|enabled| !enabled),
            page_tables: status.vm_pte,
            mappings: Vec::new(),
        };
        if vmas.is_empty() {
            return Ok(process);
        }
        let devices = OpenDevices::of(open);
        let resolved: Vec<_> = vmas
            .iter()
            .map(|vma| (vma, devices.resolve(vma, Host::from(self.facts))))
            .collect();
        let wanted = resolved.iter().filter(|(_, own)| self.is_wanted(own));
        let wanted: BTreeSet<_> = wanted.map(|(vma, _)| vma.start).collect();
        let advice = match &mut self.before_smaps {
            Some(before) if !wanted.is_empty() => {
                before(pid, &process.name);
                let wanted = wanted.clone();
                look(pid, move |process| {
                    process.advice(|start| wanted.contains(&start))
                })?
            }
            _ => BTreeMap::new(),
        };
        let mut assessed = Vec::new();
        for (vma, resolved) in resolved {
            let physical = resolved.place.and_then(|place| place.physical);
            let observed = Observed {
                facts: self.facts,
                vma,
                resolved,
                // A BAR is naturally aligned: the offset that the kernel shows agrees with its
                // physical address modulo every leaf that fits.
                hpa: physical.unwrap_or(vma.offset),
                thp_disabled: process.thp_disabled == Some(true),
                advice: advice.get(&vma.start).copied(),
            };
            assessed.push(observed.assess());
        }
        // By all mappings, even if only some are wanted: the tables belong to all.
        if let Some(tables) = tables {
            judge(&mut assessed, &tables, page);
        }
        assessed.retain(|own| wanted.contains(&own.mapping.address));
        process.mappings = assessed.into_iter().map(|own| own.mapping).collect();
        Ok(process)
    }

    fn is_wanted(&self, resolved: &Resolved) -> bool {
        let mut names = resolved.devices.iter().map(|device| &device.name);
        self.device
            .as_ref()
            .is_none_or(|wanted| names.any(|name| name == wanted))
    }
}

impl fmt::Debug for Inspector<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector")
            .field("device", &self.device)
            .field("smaps", &self.before_smaps.is_some())
            .finish_non_exhaustive()
    }
}
