//! The VFIO files that a process has open or mapped, recognised by device number and inode, never by path.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::ops::Range;

use super::nodes::{Node, Nodes};
use crate::procfs::{self, FileId, Process};

/// The kernel's name for the file of a device that was opened through its group.
const DEVICE_INODE_NAME: &str = "anon_inode:[vfio-device]";

/// `O_PATH` on all architectures with VFIO, as `flags` in `fdinfo` shows it.
const O_PATH: u32 = 0o10_000_000;

/// A VFIO file that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenFile {
    pub(crate) file: FileId,
    pub(crate) kind: FileKind,
    /// The device's path in sysfs, if the kernel shows it (Linux 7.3 does).
    pub(crate) path: Option<String>,
}

/// The kind of a VFIO file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// The device file of a group or of a device.
    Node(Node),
    /// A device that was opened through its group.
    Device,
}

/// A mapping of a VFIO device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vma {
    /// The first address.
    pub(crate) start: u64,
    /// The length in bytes.
    pub(crate) size: u64,
    /// The offset that the kernel shows: region and offset within it, or the physical address on old kernels.
    pub(crate) offset: u64,
    pub(crate) file: FileId,
    /// The device's own node (`vfio0`), if it was opened by that.
    pub(crate) node: Option<String>,
}

/// The VFIO files that a process has open.
pub(crate) fn open(process: &Process, nodes: &Nodes) -> io::Result<Vec<OpenFile>> {
    let mut found = Vec::new();
    process.descriptors(DEVICE_INODE_NAME, |own| {
        let node = nodes.of(own.file).cloned();
        let kind = match node.map(FileKind::Node) {
            Some(kind) => kind,
            None if own.is_named => FileKind::Device,
            None => return Ok(()),
        };
        // Closed in the meantime.
        let Ok(info) = process.text(&format!("fdinfo/{}", own.number)) else {
            return Ok(());
        };
        if is_path_only(&info) {
            return Ok(());
        }
        found.push(OpenFile {
            file: own.file.id,
            kind,
            path: procfs::field(&info, "vfio-device-syspath").map(str::to_owned),
        });
        Ok(())
    })?;
    Ok(found)
}

/// Whether a descriptor only names its file (`O_PATH`), which needs no permission for it.
fn is_path_only(info: &str) -> bool {
    let flags = procfs::field(info, "flags");
    let flags = flags.and_then(|flags| u32::from_str_radix(flags, 8).ok());
    flags.is_some_and(|flags| flags & O_PATH != 0)
}

/// The mappings of VFIO devices, by address. `open` is what the process has open; `other` is called with the address
/// range of every other mapping.
pub(crate) fn mapped(
    process: &Process,
    nodes: &Nodes,
    open: &[OpenFile],
    mut other: impl FnMut(Range<u64>),
) -> io::Result<Vec<Vma>> {
    let device = |node: &Node| match node {
        Node::Device(name) => Some(name.clone()),
        Node::Group(_) => None,
    };
    // The device of each file looked at so far; none if it is not VFIO's.
    let mut known: BTreeMap<FileId, Option<String>> = BTreeMap::new();
    for own in open {
        if let FileKind::Node(node) = &own.kind {
            known.insert(own.file, device(node));
        }
    }
    let mut may_ask = true;
    let mut found = Vec::new();
    process.mappings(|mapped| {
        let addresses = mapped.start..mapped.end;
        // VFIO refuses private mappings.
        if !mapped.is_shared || mapped.file.inode == 0 {
            other(addresses);
            return Ok(());
        }
        let vma = |node| Vma {
            start: mapped.start,
            size: mapped.end - mapped.start,
            offset: mapped.offset,
            file: mapped.file,
            node,
        };
        // Not a path: those begin with a slash.
        if mapped.name == DEVICE_INODE_NAME.as_bytes() {
            found.push(vma(None));
            return Ok(());
        }
        let node = match known.entry(mapped.file) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let mut node = nodes.of_id(mapped.file);
                if node.is_none() && may_ask {
                    match process.mapped_file(&mapped) {
                        Ok(file) => node = nodes.of(file),
                        Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
                        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                            may_ask = false;
                        }
                        // Unmapped in the meantime.
                        Err(_) => return Ok(()),
                    }
                }
                unknown.insert(node.and_then(device))
            }
        };
        match node {
            Some(node) => found.push(vma(Some(node.clone()))),
            None => other(addresses),
        }
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_for_the_path_alone_has_nothing_open() {
        assert!(is_path_only("pos:\t0\nflags:\t012100000\nmnt_id:\t27\n"));
        assert!(!is_path_only("pos:\t0\nflags:\t02100002\nmnt_id:\t27\n"));
        assert!(!is_path_only(""));
    }
}
