//! Processes that have a device file of the function open: of graphics, sound, RDMA, disks, serial ports.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use hugebar::pci::Address;

use super::below::Below;
use super::found::Use;
use crate::admin::tree::Tree;
use crate::error::Error;
use crate::escape::Escaped;
use crate::procfs::{self, look};
use crate::sysfs::text;

/// The number of a device file, and whether it is one of a block device.
type Number = (bool, (u32, u32));

/// Major number of NVIDIA's own device files, which are not in sysfs (`NV_MAJOR_DEVICE_NUMBER` of its open kernel
/// modules).
const NVIDIA: u32 = 195;

pub(super) fn uses(tree: &Tree, address: Address, below: &Below) -> Result<Vec<Use>, Error> {
    let files = below.objects.iter();
    // VFIO's own file has a step of its own.
    let files = files.filter(|own| own.class != "vfio-dev");
    let mut files: BTreeMap<Number, (&str, &str)> = files
        .filter_map(|own| {
            let number = (own.class == "block", own.number?);
            Some((number, (own.class.as_str(), own.name.as_str())))
        })
        .collect();
    let information = format!("proc/driver/nvidia/gpus/{address}/information");
    if let Some(minor) = nvidia(&text(tree.path(information))) {
        files.insert((false, (NVIDIA, minor)), ("drm", "its /dev/nvidia node"));
    }
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = Arc::new(files.keys().copied().collect::<BTreeSet<_>>());
    let mut uses = Vec::new();
    for pid in procfs::pids().map_err(Error::file("/proc"))? {
        let own = Arc::clone(&wanted);
        // What cannot be looked at has ended, or is another user's; root sees all.
        let Ok((open, process)) = look(pid, move |process| {
            let mut open = BTreeSet::new();
            process.descriptors("", |file| {
                let identity = file.file;
                let char_device = identity.char_device.map(|number| (false, number));
                let block_device = identity.block_device.map(|number| (true, number));
                open.extend(
                    char_device
                        .or(block_device)
                        .filter(|own_number| own.contains(own_number)),
                );
                Ok::<(), io::Error>(())
            })?;
            Ok((open, process.name()))
        }) else {
            continue;
        };
        for (class, name) in open.iter().filter_map(|number| files.get(number)) {
            let fact = format!(
                "process {pid} ({}) has {} open",
                Escaped(&process),
                Escaped(name)
            );
            uses.push(Use::new(
                code(class),
                fact,
                "end the process, or have it close the device",
            ));
        }
    }
    Ok(uses)
}

/// The minor number of a GPU's device file, in what NVIDIA's driver says about it.
pub(super) fn nvidia(information: &str) -> Option<u32> {
    let fields = information.lines().filter_map(|line| line.split_once(':'));
    let mut minors = fields.filter(|(name, _)| name.trim() == "Device Minor");
    minors.next()?.1.trim().parse().ok()
}

/// What a client of a device file of this class uses.
fn code(class: &str) -> &'static str {
    match class {
        "drm" | "graphics" => "graphics-client",
        "sound" => "sound-client",
        "infiniband_verbs" | "infiniband_mad" | "infiniband_cm" => "rdma-client",
        "block" => "block-client",
        _ => "client",
    }
}
