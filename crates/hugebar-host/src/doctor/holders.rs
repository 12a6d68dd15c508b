//! The processes that have a device open, or only mapped.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hugebar::facts::Facts;
use hugebar::pci::Function;

use super::step::Step;
use crate::error::Error;
use crate::escape::Escaped;
use crate::inspect::held::{self, FileKind, OpenFile, Vma};
use crate::inspect::nodes::{Node, Nodes};
use crate::inspect::resolve::{Device, Host, OpenDevices};
use crate::procfs::{self, look};

const STEP: &str = "open";

/// The processes that have a device, as far as this user can see, by PID and name.
#[derive(Debug, Default)]
struct Holders {
    /// Have an open file of the device or its group.
    open: Vec<String>,
    /// Have only a mapping, which also keeps the device open.
    mapped: Vec<String>,
    /// Have only a mapping of a device that may be this one.
    perhaps: Vec<String>,
    /// How many processes could not be read.
    unreadable: u32,
    /// How many processes did not answer.
    silent: u32,
    /// Which processes may be hidden.
    hidden: Option<&'static str>,
}

/// The step for the processes that have the device. `own` is its own node.
pub(super) fn step(
    function: &Function,
    group: u32,
    own: Option<&Path>,
    facts: &Facts,
) -> Result<Step, Error> {
    let wanted = Wanted {
        device: Device::from(function),
        group,
        node: own.and_then(|own| Some(own.file_name()?.to_str()?.to_owned())),
        nodes: Arc::new(Nodes::observe()),
        host: Host::from(facts),
    };
    let mut holders = Holders {
        hidden: procfs::hidden_processes(),
        ..Holders::default()
    };
    for pid in procfs::pids().map_err(Error::file("/proc"))? {
        let held = match wanted.held(pid) {
            Ok(held) => held,
            Err(error) => {
                match error {
                    error if procfs::has_ended(&error) => (),
                    error if procfs::has_timed_out(&error) => holders.silent += 1,
                    _ => holders.unreadable += 1,
                }
                continue;
            }
        };
        let list = match held {
            Held::Not => continue,
            Held::Open => &mut holders.open,
            Held::Mapped => &mut holders.mapped,
            Held::Perhaps => &mut holders.perhaps,
        };
        let name = look(pid, |process| Ok(process.name())).unwrap_or_default();
        list.push(format!("process {pid} ({})", Escaped(&name)));
    }
    Ok(holders.step())
}

impl Holders {
    fn step(&self) -> Step {
        let found = [
            (&self.open, "open"),
            (&self.mapped, "mapped, though no longer open"),
        ];
        let found: Vec<_> = found
            .into_iter()
            .filter(|(names, _)| !names.is_empty())
            .map(|(names, how)| format!("{} has it {how}", names.join(", ")))
            .collect();
        if !found.is_empty() {
            let remedy = "end the process, or have it close and unmap the device";
            return Step::blocker(STEP, found.join("; "), remedy);
        }
        if !self.perhaps.is_empty() {
            let names = self.perhaps.join(", ");
            return Step::warning(
                STEP,
                format!("{names} has a device mapped that may be this one"),
                "if the device is busy, end that process",
            );
        }
        let mut unknown = Vec::new();
        if self.unreadable > 0 {
            unknown.push(format!(
                "{} processes: <{}>",
                self.unreadable,
                procfs::missing_privilege()
            ));
        }
        if self.silent > 0 {
            let (count, plural) = (self.silent, self.silent > 1);
            let words = if plural {
                "processes do"
            } else {
                "process does"
            };
            unknown.push(format!("{count} {words} not answer"));
        }
        if let Some(which) = self.hidden {
            unknown.push(format!("processes {which} are hidden"));
        }
        if unknown.is_empty() {
            return Step::ok(STEP, "no process has it open");
        }
        let fact = "no process visible to this user has it open";
        Step::ok(STEP, format!("{fact}; {}", unknown.join("; ")))
    }
}

/// How a process has a device.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    Not,
    Open,
    Mapped,
    Perhaps,
}

/// The device that is looked for.
struct Wanted {
    device: Device,
    group: u32,
    /// The name of its own node.
    node: Option<String>,
    nodes: Arc<Nodes>,
    host: Host,
}

impl Wanted {
    fn held(&self, pid: u32) -> io::Result<Held> {
        // Open files can be read even while the address space is locked.
        let nodes = Arc::clone(&self.nodes);
        let open = look(pid, move |process| held::open(process, &nodes))?;
        if open.iter().any(|own| self.is_open(own)) {
            return Ok(Held::Open);
        }
        let nodes = Arc::clone(&self.nodes);
        let (open, vmas) = look(pid, move |process| {
            let vmas = held::mapped(process, &nodes, &open, |_| ())?;
            Ok((open, vmas))
        })?;
        if vmas.is_empty() {
            return Ok(Held::Not);
        }
        let devices = OpenDevices::of(open);
        let held = vmas.iter().map(|vma| self.mapped(&devices, vma));
        // The most certain answer.
        let mut held: Vec<_> = held.collect();
        held.sort_by_key(|held| *held != Held::Mapped);
        let surest = held.into_iter().find(|held| *held != Held::Not);
        Ok(surest.unwrap_or(Held::Not))
    }

    /// Whether a file is the node, or a device file whose group is already closed.
    fn is_open(&self, own: &OpenFile) -> bool {
        let path = own
            .path
            .as_deref()
            .and_then(|path| Path::new(path).file_name());
        match &own.kind {
            FileKind::Node(Node::Group(group)) => *group == self.group,
            FileKind::Node(Node::Device(name)) => self.node.as_ref() == Some(name),
            FileKind::Device => path.is_some_and(|name| name == self.device.name.as_str()),
        }
    }

    fn mapped(&self, devices: &OpenDevices, vma: &Vma) -> Held {
        let resolved = devices.resolve(vma, self.host);
        match resolved.devices.as_slice() {
            [only] if only.name == self.device.name => Held::Mapped,
            [] if self.device.fits(vma, self.host) => Held::Perhaps,
            several if several.iter().any(|one| one.name == self.device.name) => Held::Perhaps,
            _ => Held::Not,
        }
    }
}
