//! `hugebar inspect`: what the device mappings of other processes can have, and what they could.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use hugebar::ErrorKind;
use hugebar::facts::Facts;
use hugebar::pci;
use hugebar::reason::Code;
use hugebar::verdict::reaches;

use crate::Answer;
use crate::args::{InspectArgs, Requirement};
use crate::failure::{Failure, host};
use crate::host::held;
use crate::host::nodes::Nodes;
use crate::host::owner::{Devices, Owner};
use crate::host::procfs::{self, look};
use crate::host::seen::Seen;
use crate::output::{self, InspectReport, MappingReport, Plain, ProcessReport};

/// Runs the command.
pub(crate) fn run(args: &InspectArgs) -> Result<Answer, Failure> {
    let facts = Facts::observe();
    if let Some(Requirement::Size(size)) = args.require {
        super::map::check_required_size(size, &facts.leaf_sizes)?;
    }
    procfs::check().map_err(host("/proc/self"))?;
    let view = View {
        facts: &facts,
        nodes: Arc::new(Nodes::observe()),
        device: None,
        smaps: args.smaps,
    };
    let mut report = InspectReport::new(&facts);
    match args.target.as_deref() {
        Some(target) if !target.is_empty() && target.bytes().all(|b| b.is_ascii_digit()) => {
            let pid = target.parse();
            let pid = pid.map_err(|_| Failure::Usage(format!("{target} is no process id")))?;
            let process = view.process(pid);
            let process = process.map_err(|error| Failure::Process { pid, error })?;
            report.processes.push(process);
        }
        target => {
            let device = target.map(pci::locate).transpose();
            let device = device.map_err(|error| match error.kind() {
                ErrorKind::InvalidInput => {
                    Failure::Usage(format!("{error}, or a process by its number"))
                }
                _ => error.into(),
            })?;
            let device = device.map(|function| function.address().to_string());
            View { device, ..view }.all(&mut report)?;
        }
    }
    output::deliver(&report, args.json)?;
    if args.require.is_some() {
        warn_of_unknown(&report);
    }
    Ok(match args.require {
        Some(required) if !meets(&report, required) => Answer::No,
        _ => Answer::Yes,
    })
}

/// Tells what an answer to `--require` does not take in.
fn warn_of_unknown(report: &InspectReport) {
    let refused = report.unreadable - report.unanswered;
    if refused > 0 {
        output::warn(format_args!(
            "--require: {refused} processes could not be read <{}>",
            procfs::lacking()
        ));
    }
    if report.unanswered > 0 {
        let count = report.unanswered;
        output::warn(format_args!("--require: {count} processes do not answer"));
    }
    if let Some(which) = report.hidden {
        output::warn(format_args!("--require: processes {which} are not seen"));
    }
    // Where it is known to close the gate, the mapping falls short anyway.
    let asked = |own: &&MappingReport| {
        let policy = own
            .reasons
            .iter()
            .any(|reason| reason.code == Code::ThpPolicy);
        policy && own.largest > own.possible.sizes().base()
    };
    for own in report.mappings().filter(asked) {
        output::warn(format_args!(
            "--require: the THP policy may keep {} to pages, which is not known for certain",
            own.address
        ));
    }
}

/// What is looked at, and by what.
struct View<'a> {
    facts: &'a Facts,
    nodes: Arc<Nodes>,
    /// Only mappings of this device.
    device: Option<String>,
    smaps: bool,
}

impl View<'_> {
    /// All processes that can be read; the others are counted.
    fn all(&self, report: &mut InspectReport) -> Result<(), Failure> {
        report.hidden = procfs::hidden();
        for pid in procfs::pids().map_err(host("/proc"))? {
            match self.process(pid) {
                Ok(process) if process.mappings.is_empty() => (),
                Ok(process) => report.processes.push(process),
                Err(error) if procfs::ended(&error) => (),
                Err(error) => {
                    report.unreadable += 1;
                    report.unanswered += u64::from(procfs::is_silent(&error));
                }
            }
        }
        Ok(())
    }

    fn process(&self, pid: u32) -> io::Result<ProcessReport> {
        let nodes = Arc::clone(&self.nodes);
        let (open, vmas, name, status) = look(pid, move |process| {
            let open = held::open(process, &nodes)?;
            let vmas = held::mapped(process, &nodes, &open)?;
            Ok((open, vmas, process.name(), process.text("status")?))
        })?;
        let mut process = ProcessReport {
            pid,
            name,
            // Without THP there is none to disable, though it says 0.
            thp_disabled: procfs::field(&status, "THP_enabled")
                .filter(|_| self.facts.thp.is_some())
                .map(|enabled| enabled == "0"),
            mappings: Vec::new(),
        };
        if vmas.is_empty() {
            return Ok(process);
        }
        let devices = Devices::of(open);
        let mut owned: Vec<_> = vmas
            .iter()
            .map(|vma| (vma, devices.owner(vma, self.facts.kernel)))
            .collect();
        owned.retain(|(_, owner)| self.wanted(owner));
        let advice = if self.smaps && !owned.is_empty() {
            output::warn(format_args!(
                "reading smaps takes away the 1 GiB leaves of process {pid} ({})",
                Plain(&process.name)
            ));
            let wanted: BTreeSet<_> = owned.iter().map(|(vma, _)| vma.start).collect();
            look(pid, move |process| {
                process.advice(|start| wanted.contains(&start))
            })?
        } else {
            BTreeMap::new()
        };
        for (vma, owner) in owned {
            let physical = owner.place.and_then(|place| place.physical);
            let seen = Seen {
                facts: self.facts,
                vma,
                owner,
                // A BAR is naturally aligned: the offset that the kernel shows agrees with its
                // physical address modulo every leaf that fits.
                hpa: physical.unwrap_or(vma.offset),
                thp_disabled: process.thp_disabled == Some(true),
                advice: advice.get(&vma.start).copied(),
            };
            process.mappings.push(seen.report());
        }
        Ok(process)
    }

    fn wanted(&self, owner: &Owner) -> bool {
        let mut names = owner.devices.iter().map(|device| &device.name);
        self.device
            .as_ref()
            .is_none_or(|wanted| names.any(|name| name == wanted))
    }
}

/// A size is asked of the mappings that have a block of it: devices have small BARs as well.
fn meets(report: &InspectReport, required: Requirement) -> bool {
    let mut mappings = report.mappings().peekable();
    match required {
        Requirement::Optimal => mappings.peek().is_some() && mappings.all(|own| own.optimal),
        Requirement::Size(size) => {
            let mut mappings = mappings
                .filter(|own| own.best.bytes_at_least(size) > 0)
                .peekable();
            mappings.peek().is_some() && mappings.all(|own| reaches(&own.best, &own.possible, size))
        }
    }
}
