//! The processes that have a device open, or only mapped.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hugebar::facts::Facts;
use hugebar::pci::Function;

use super::held::{self, FileKind, OpenFile, Vma};
use super::nodes::{Node, Nodes};
use super::resolve::{Device, Host, OpenDevices};
use crate::error::Error;
use crate::escape::Escaped;
use crate::procfs::{self, look};

/// The processes that have a device, as far as this user can see, by PID and name.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    /// Have an open file of the device or its group.
    pub(crate) open: Vec<String>,
    /// Have only a mapping, which also keeps the device open.
    pub(crate) mapped: Vec<String>,
    /// Have only a mapping of a device that may be this one.
    pub(crate) perhaps: Vec<String>,
    /// How many processes could not be read.
    pub(crate) unreadable: u32,
    /// How many processes did not answer.
    pub(crate) silent: u32,
    /// Which processes may be hidden.
    pub(crate) hidden: Option<&'static str>,
}

/// Finds the processes that have a device. `own` is its own node.
pub(crate) fn of(
    function: &Function,
    group: u32,
    own: Option<&Path>,
    facts: &Facts,
) -> Result<Holders, Error> {
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
    Ok(holders)
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
