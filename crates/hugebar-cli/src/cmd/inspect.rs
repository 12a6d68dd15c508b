//! `hugebar inspect`: what the device mappings of other processes can have, and what they could.

use std::collections::BTreeMap;
use std::io;

use hugebar::ErrorKind;
use hugebar::facts::Facts;
use hugebar::pci;
use hugebar::reason::Code;
use hugebar::verdict::reaches;

use crate::Answer;
use crate::args::{InspectArgs, Requirement};
use crate::failure::{Failure, host};
use crate::host::owner::{Devices, Owner};
use crate::host::seen::Seen;
use crate::host::{maps, proc};
use crate::output::{self, InspectReport, MappingReport, ProcessReport};

/// Runs the command.
pub(crate) fn run(args: &InspectArgs) -> Result<Answer, Failure> {
    let facts = Facts::observe();
    if let Some(Requirement::Size(size)) = args.require {
        super::map::check_required_size(size, &facts.leaf_sizes)?;
    }
    proc::check()?;
    let look = Look {
        facts: &facts,
        device: None,
        smaps: args.smaps,
    };
    let mut report = InspectReport::new(&facts);
    match args.target.as_deref() {
        Some(target) if !target.is_empty() && target.bytes().all(|b| b.is_ascii_digit()) => {
            let pid = target.parse();
            let pid = pid.map_err(|_| Failure::Usage(format!("{target} is no process id")))?;
            let process = look.process(pid);
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
            Look { device, ..look }.all(&mut report)?;
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
    if report.unreadable > 0 {
        output::warn(format_args!(
            "--require: {} processes could not be read <{}>",
            report.unreadable,
            proc::lacking()
        ));
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
struct Look<'a> {
    facts: &'a Facts,
    /// Only mappings of this device.
    device: Option<String>,
    smaps: bool,
}

impl Look<'_> {
    /// All processes that can be read; the others are counted.
    fn all(&self, report: &mut InspectReport) -> Result<(), Failure> {
        report.hidden = proc::hidden();
        for pid in proc::pids().map_err(host("/proc"))? {
            match self.process(pid) {
                Ok(process) if process.mappings.is_empty() => (),
                Ok(process) => report.processes.push(process),
                Err(error) if proc::ended(&error) => (),
                Err(_) => report.unreadable += 1,
            }
        }
        Ok(())
    }

    fn process(&self, pid: u32) -> io::Result<ProcessReport> {
        let vmas = maps::devices(&proc::read(pid, "maps")?);
        let status = proc::read(pid, "status")?;
        let mut process = ProcessReport {
            pid,
            name: proc::name(pid),
            // Without THP there is none to disable, though it says 0.
            thp_disabled: maps::field(&status, "THP_enabled")
                .filter(|_| self.facts.thp.is_some())
                .map(|enabled| enabled == "0"),
            mappings: Vec::new(),
        };
        if vmas.is_empty() {
            return Ok(process);
        }
        let devices = Devices::of(pid)?;
        let mut owned: Vec<_> = vmas
            .iter()
            .map(|vma| (vma, devices.owner(vma, self.facts.kernel)))
            .collect();
        owned.retain(|(_, owner)| self.wanted(owner));
        let advice = if self.smaps && !owned.is_empty() {
            output::warn(format_args!(
                "reading smaps takes away the 1 GiB leaves of process {pid} ({})",
                process.name
            ));
            maps::advice(&proc::read(pid, "smaps")?)
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
