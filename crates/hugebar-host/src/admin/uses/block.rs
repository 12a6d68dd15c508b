//! Disks that something claims.
//!
//! Whoever uses a block device alone has claimed it: file systems, swap, device mapper, md, ZFS. The kernel then refuses
//! another exclusive open (`bd_may_claim`, block/bdev.c), also of the whole disk if the claim is one of a partition.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fstat, major, minor, openat};
use rustix::io::Errno;

use super::below::{Below, Object, number};
use super::found::Use;
use crate::admin::tree::Tree;
use crate::escape::Escaped;
use crate::sysfs::{names, text};

const CODE: &str = "block";

pub(super) fn uses(tree: &Tree, below: &Below) -> Vec<Use> {
    let disks = below.of("block");
    let disks = disks.filter(|own| !own.folder.join("partition").exists());
    disks.filter_map(|disk| of_disk(tree, disk)).collect()
}

fn of_disk(tree: &Tree, disk: &Object) -> Option<Use> {
    // A path of an NVMe namespace that has several (nvme0c1n1): the disk (nvme0n1) lies elsewhere.
    let head = match text(disk.folder.join("hidden")).as_str() {
        "1" => head(tree, &disk.name)?,
        _ => disk.clone(),
    };
    let name = Escaped(&head.name).to_string();
    match open(tree, &head) {
        Ok(()) | Err(Errno::NOMEDIUM | Errno::NXIO) => None,
        Err(Errno::BUSY) => {
            let claimed = claims(tree, &head);
            let fact = match claimed.is_empty() {
                true => format!("{name} is claimed by the kernel or a program"),
                false => claimed.join(", "),
            };
            let remedy = "unmount it, turn off its swap, or stop the RAID, volume group, pool or program that has it";
            Some(Use::new(CODE, fact, remedy))
        }
        Err(errno) => Some(Use::new(
            "unknown",
            format!(
                "whether {name} is claimed is unknown: opening it: {}",
                std::io::Error::from(errno)
            ),
            "run this as root, where /dev has the disk",
        )),
    }
}

/// The disk of a hidden path `nvme0c1n1`.
pub(super) fn head(tree: &Tree, path: &str) -> Option<Object> {
    let (subsystem, rest) = path.strip_prefix("nvme")?.split_once('c')?;
    let (_, namespace) = rest.split_once('n')?;
    let name = format!("nvme{subsystem}n{namespace}");
    let folder = tree.path("sys/class/block").join(&name);
    Some(Object {
        number: number(&text(folder.join("dev"))),
        class: "block".to_owned(),
        folder,
        name,
    })
}

/// Opens a disk as only one can (`O_EXCL`), and closes it again.
fn open(tree: &Tree, disk: &Object) -> Result<(), Errno> {
    // `!` stands for a slash (`cciss!c0d0`).
    let path = tree.path("dev").join(disk.name.replace('!', "/"));
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty())?;
    let own = fstat(file.as_fd())?.st_rdev;
    match disk.number {
        Some(number) if number == (major(own), minor(own)) => Ok(()),
        _ => Err(Errno::NODEV),
    }
}

/// What claims a disk or its partitions, as far as files say.
pub(super) fn claims(tree: &Tree, disk: &Object) -> Vec<String> {
    let mut parts = vec![disk.clone()];
    parts.extend(Below::read(&disk.folder).objects);
    let mounts = text(tree.path("proc/self/mountinfo"));
    let swaps = text(tree.path("proc/swaps"));
    let mut found = Vec::new();
    for part in parts.iter().filter(|part| part.class == "block") {
        let name = Escaped(&part.name).to_string();
        let node = format!("/dev/{}", part.name.replace('!', "/"));
        if let Some(place) = mounted(&mounts, &node, part.number) {
            found.push(format!("{name} is mounted on {}", Escaped(place)));
        }
        if swaps
            .lines()
            .any(|line| line.split(' ').next() == Some(&node))
        {
            found.push(format!("{name} is swap"));
        }
        for holder in names(part.folder.join("holders")) {
            let holder = held_as(&part.folder.join("holders").join(&holder), &holder);
            found.push(format!("{name} is a part of {}", Escaped(&holder)));
        }
    }
    found
}

/// Where a device is mounted, according to the text of `mountinfo`. Btrfs has device numbers of its own, but names a device.
fn mounted<'a>(mounts: &'a str, node: &str, own: Option<(u32, u32)>) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(2);
        let is_it = number(words.next()?) == own && own.is_some();
        let place = words.nth(1)?;
        let (_, behind) = line.split_once(" - ")?;
        (is_it || behind.split(' ').nth(1) == Some(node)).then_some(place)
    })
}

/// `dm-0 (vg-root)`, `md0`.
fn held_as(folder: &Path, name: &str) -> String {
    match fs::read_to_string(folder.join("dm/name")) {
        Ok(own) => format!("{name} ({})", own.trim_end()),
        Err(_) => name.to_owned(),
    }
}
