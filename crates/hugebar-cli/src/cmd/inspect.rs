//! `hugebar inspect`: what the device mappings of other processes can have, and what they could.

use std::collections::BTreeMap;
use std::io;

use hugebar::ErrorKind;
use hugebar::facts::{Facts, ThpPolicy};
use hugebar::leaf::{self, Bytes, Leaves};
use hugebar::pci;
use hugebar::reason::{Code, Reason};
use hugebar::verdict::reaches;

use crate::Answer;
use crate::args::{InspectArgs, Requirement};
use crate::failure::{Failure, host};
use crate::host::maps::{self, Advice, Vma};
use crate::host::owner::{Devices, Owner};
use crate::host::proc;
use crate::output::{self, AdviceReport, InspectReport, MappingReport, ProcessReport};

/// Runs the command.
pub(crate) fn run(args: &InspectArgs) -> Result<Answer, Failure> {
    let facts = Facts::observe();
    if let Some(Requirement::Size(size)) = args.require {
        super::map::check_required_size(size, &facts.leaf_sizes)?;
    }
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
    if args.require.is_some() && report.unreadable > 0 {
        output::warn(format_args!(
            "--require: {} processes could not be read <{}>",
            report.unreadable,
            proc::lacking()
        ));
    }
    Ok(match args.require {
        Some(required) if !meets(&report, required) => Answer::No,
        _ => Answer::Yes,
    })
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
            thp_disabled: maps::field(&status, "THP_enabled").map(|enabled| enabled == "0"),
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

/// What is known of a mapping.
struct Seen<'a> {
    facts: &'a Facts,
    vma: &'a Vma,
    owner: Owner,
    /// The physical address, or a number congruent with it.
    hpa: u64,
    thp_disabled: bool,
    advice: Option<Advice>,
}

impl Seen<'_> {
    fn report(mut self) -> MappingReport {
        let sizes = self.facts.leaf_sizes;
        let physical = self.owner.place.and_then(|place| place.physical);
        let possible = self.possible();
        let best = leaf::leaves(self.hpa, self.hpa, self.vma.size, &sizes);
        let agree = |size: &&u64| self.vma.start % **size == self.hpa % **size;
        let congruent = sizes.as_slice().iter().rev().find(agree).copied();
        let congruent = congruent.unwrap_or(sizes.base());
        let reasons = self.reasons(&best, &possible, congruent);
        let names = self.owner.devices.drain(..).map(|device| device.name);
        let mut names: Vec<_> = names.collect();
        let device = match names.len() {
            1 => names.pop(),
            _ => None,
        };
        MappingReport {
            address: format!("{:#x}", self.vma.start),
            size: self.vma.size,
            device,
            candidates: names,
            region: self.owner.place.map(|place| place.region),
            offset: self.owner.place.map(|place| place.offset),
            physical: physical.map(|address| format!("{address:#x}")),
            congruent,
            optimal: possible.total() <= best.total(),
            best,
            possible,
            smaps: self.advice.map(AdviceReport::from),
            reasons,
        }
    }

    /// By the rule, at its address, with what this kernel has for this process.
    fn possible(&self) -> Leaves {
        let sizes = if self.pages_only() {
            self.facts.leaf_sizes.only_base()
        } else {
            self.facts.device_leaf_sizes()
        };
        let mut possible = Leaves::none(&self.facts.leaf_sizes);
        possible.add_all(&leaf::leaves(
            self.vma.start,
            self.hpa,
            self.vma.size,
            &sizes,
        ));
        possible
    }

    fn pages_only(&self) -> bool {
        let closed = self.asked_policy() == Some(ThpPolicy::Never);
        self.thp_disabled || self.refused() || closed
    }

    /// The THP policy, where this kernel asks it.
    fn asked_policy(&self) -> Option<ThpPolicy> {
        let asks = self.facts.asks_thp_policy() == Some(true);
        self.facts.thp.filter(|_| asks)
    }

    fn refused(&self) -> bool {
        self.advice.is_some_and(|advice| advice.refused)
    }

    fn reasons(&self, best: &Leaves, possible: &Leaves, congruent: u64) -> Vec<Reason> {
        let Vma { start, size, .. } = *self.vma;
        let facts = self.facts;
        let mut reasons = Vec::new();
        let mut reason = |code, fact, remedy: &str| {
            let reason: Reason = Reason::new(code, fact, remedy);
            reasons.push(reason);
        };
        let short = possible.total() > best.total();
        if short && facts.device_leaf_sizes() != facts.leaf_sizes {
            let fact = format!("Linux {} maps device memory in pages only", facts.release);
            reason(Code::Kernel, fact, "use Linux 6.12 or later");
        }
        if short && self.thp_disabled {
            let fact = "transparent huge pages are off for this process (PR_SET_THP_DISABLE)";
            let remedy = "start it without that setting, which is inherited, or have it call \
                          prctl(PR_SET_THP_DISABLE, 0) before it populates the mapping";
            reason(Code::ThpDisabled, fact.to_owned(), remedy);
        }
        if short && self.refused() {
            let fact = format!("{start:#x} is advised with MADV_NOHUGEPAGE");
            reason(
                Code::NoHugepage,
                fact,
                "have the program spare device memory that advice",
            );
        }
        if leaf::leaves(start, self.hpa, size, &facts.leaf_sizes).total() > best.total() {
            let agree = Bytes(congruent);
            let fact = format!("{start:#x} and its physical address agree modulo {agree} only");
            let remedy = "have the program map it at a congruent address, as hugebar does";
            reason(Code::Placement, fact, remedy);
        }
        let hinted = self.advice.is_some_and(|advice| advice.hinted);
        let large = possible.bytes_at_least(facts.leaf_sizes.base() + 1) > 0;
        let asked = match self.asked_policy() {
            Some(ThpPolicy::Never) if short => Some((ThpPolicy::Never, "pages only")),
            Some(ThpPolicy::Madvise) if large && !hinted => {
                let told = self.advice.is_some();
                let what = if told {
                    "it is not hinted, so pages only"
                } else {
                    "pages only unless it is hinted"
                };
                Some((ThpPolicy::Madvise, what))
            }
            _ => None,
        };
        if let Some((policy, what)) = asked {
            reason(
                Code::ThpPolicy,
                format!(
                    "Linux {} asks the THP policy, which is {policy}: {what}",
                    facts.release
                ),
                "set it to always, or to madvise and have the program hint before it touches the mapping",
            );
        }
        if self.owner.devices.len() != 1 {
            let fact = match self.owner.devices.as_slice() {
                [] => format!("nothing that the process has open tells whose {start:#x} is"),
                several => {
                    let names: Vec<_> = several.iter().map(|device| &*device.name).collect();
                    format!("{start:#x} can be of {}", names.join(" or "))
                }
            };
            reason(
                Code::Device,
                fact,
                "have the program open devices by their own nodes (/dev/vfio/devices), which maps names",
            );
        }
        reasons
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
