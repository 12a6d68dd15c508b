//! Who has a device: open, or mapped only.

use std::path::Path;

use hugebar::facts::KernelVersion;
use hugebar::pci::Function;

use super::owner::{Device, Devices};
use super::proc::{self, Descriptor};
use super::{maps, owner};
use crate::failure::{Failure, host};
use crate::output::Step;

const STEP: &str = "open";

/// Who has a device, as far as this user can see; each by number and name.
#[derive(Debug, Default)]
struct Holders {
    /// With a file of it, or of its group.
    open: Vec<String>,
    /// With nothing but a mapping, which keeps the device open as well.
    mapped: Vec<String>,
    /// With such a mapping of some device that may be this one.
    perhaps: Vec<String>,
    /// How many processes could not be read.
    unreadable: u32,
    /// Which processes may be there that are not seen at all.
    hidden: Option<&'static str>,
}

/// The step that says who has the device. `own` is its own node.
pub(crate) fn step(
    function: &Function,
    group: u32,
    own: Option<&Path>,
    kernel: Option<KernelVersion>,
) -> Result<Step, Failure> {
    let wanted = Wanted {
        device: Device::from(function),
        nodes: [
            Some(format!("/dev/vfio/{group}")),
            Some(format!("/dev/vfio/noiommu-{group}")),
            own.map(|own| own.display().to_string()),
        ],
        kernel,
    };
    let mut holders = Holders {
        hidden: proc::hidden(),
        ..Holders::default()
    };
    for pid in proc::pids().map_err(host("/proc"))? {
        let held = match wanted.held(pid) {
            Ok(held) => held,
            Err(error) => {
                holders.unreadable += u32::from(!proc::ended(&error));
                continue;
            }
        };
        let list = match held {
            Held::Not => continue,
            Held::Open => &mut holders.open,
            Held::Mapped => &mut holders.mapped,
            Held::Perhaps => &mut holders.perhaps,
        };
        list.push(format!("process {pid} ({})", proc::name(pid)));
    }
    Ok(holders.step())
}

impl Holders {
    fn step(&self) -> Step {
        let told = [
            (&self.open, "open"),
            (&self.mapped, "mapped, though no longer open"),
        ];
        let told: Vec<_> = told
            .into_iter()
            .filter(|(names, _)| !names.is_empty())
            .map(|(names, how)| format!("{} has it {how}", names.join(", ")))
            .collect();
        if !told.is_empty() {
            let remedy = "end it, or have it close and unmap the device";
            return Step::blocker(STEP, told.join("; "), remedy);
        }
        if !self.perhaps.is_empty() {
            let names = self.perhaps.join(", ");
            return Step::warning(
                STEP,
                format!("{names} has a device mapped that may be this one"),
                "if the device is busy, end it",
            );
        }
        let mut unknown = Vec::new();
        if self.unreadable > 0 {
            unknown.push(format!(
                "{} processes: <{}>",
                self.unreadable,
                proc::lacking()
            ));
        }
        if let Some(which) = self.hidden {
            unknown.push(format!("processes {which} are not seen"));
        }
        if unknown.is_empty() {
            return Step::ok(STEP, "nobody has it open");
        }
        let fact = "nobody that this user can see has it open";
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
    nodes: [Option<String>; 3],
    kernel: Option<KernelVersion>,
}

impl Wanted {
    fn held(&self, pid: u32) -> std::io::Result<Held> {
        let open = proc::descriptors(pid)?;
        if open.iter().any(|own| self.is_open(pid, own)) {
            return Ok(Held::Open);
        }
        let vmas = maps::devices(&proc::read(pid, "maps")?);
        if vmas.is_empty() {
            return Ok(Held::Not);
        }
        let devices = Devices::of(pid)?;
        let held = vmas.iter().map(|vma| self.mapped(&devices, vma));
        // The surest.
        let mut held: Vec<_> = held.collect();
        held.sort_by_key(|held| *held != Held::Mapped);
        let surest = held.into_iter().find(|held| *held != Held::Not);
        Ok(surest.unwrap_or(Held::Not))
    }

    /// By the node, or a device file whose group is closed already.
    fn is_open(&self, pid: u32, own: &Descriptor) -> bool {
        if self.nodes.iter().flatten().any(|node| *node == own.target) {
            return true;
        }
        let info = || proc::read(pid, &format!("fdinfo/{}", own.number)).ok();
        let named = |info: String| {
            let path = maps::field(&info, "vfio-device-syspath")?;
            let name = Path::new(path).file_name()?.to_str()?;
            Some(name == self.device.name)
        };
        maps::is_device(&own.target) && info().and_then(named) == Some(true)
    }

    fn mapped(&self, devices: &Devices, vma: &maps::Vma) -> Held {
        let owner: owner::Owner = devices.owner(vma, self.kernel);
        match owner.devices.as_slice() {
            [only] if only.name == self.device.name => Held::Mapped,
            [] if self.device.fits(vma, self.kernel) => Held::Perhaps,
            several if several.iter().any(|one| one.name == self.device.name) => Held::Perhaps,
            _ => Held::Not,
        }
    }
}
