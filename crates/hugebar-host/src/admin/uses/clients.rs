//! Processes that have a device file of the function open: of graphics, sound, RDMA, disks, serial ports.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::below::Below;
use super::found::Use;
use crate::error::Error;
use crate::escape::Escaped;
use crate::procfs::{self, look};

/// The number of a device file, and whether it is one of a block device.
type Number = (bool, (u32, u32));

pub(super) fn uses(below: &Below) -> Result<Vec<Use>, Error> {
    let files = below.objects.iter();
    // VFIO's own file has a step of its own.
    let files = files.filter(|own| own.class != "vfio-dev");
    let files: BTreeMap<Number, (&str, &str)> = files
        .filter_map(|own| {
            let number = (own.class == "block", own.number?);
            Some((number, (own.class.as_str(), own.name.as_str())))
        })
        .collect();
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
