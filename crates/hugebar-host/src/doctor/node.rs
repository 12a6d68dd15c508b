//! The device nodes that open a device.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::step::Step;

/// Whether this user may open the device, by its group or by its own node (`faccessat`). One of them is enough.
pub(super) fn step(group: u32, own: Option<&Path>) -> Step {
    let ways = [
        (
            Path::new("/dev/vfio/vfio"),
            Some(PathBuf::from(format!("/dev/vfio/{group}"))),
        ),
        (Path::new("/dev/iommu"), own.map(Path::to_owned)),
        // Without an IOMMU, where the administrator allows it.
        (
            Path::new("/dev/vfio/vfio"),
            Some(PathBuf::from(format!("/dev/vfio/noiommu-{group}"))),
        ),
    ];
    let usable = |path: &Path| {
        // Check effective user and capabilities, as `open` does.
        let access = Access::READ_OK | Access::WRITE_OK;
        accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
    };
    let there: Vec<_> = ways
        .into_iter()
        .filter_map(|(with, node)| Some((with, node.filter(|node| node.exists())?)))
        .collect();
    if there.is_empty() {
        let remedy = "pass the nodes into this container or jail";
        let fact = format!("neither /dev/vfio/{group} nor the device's own node exists");
        return Step::blocker("node", fact, remedy);
    }
    let open: Vec<_> = there
        .iter()
        .filter(|(with, node)| usable(with) && usable(node))
        .map(|(_, node)| node.display().to_string())
        .collect();
    if !open.is_empty() {
        return Step::ok("node", format!("{} can be opened", open.join(", ")));
    }
    // Granting all nodes of one of the ways is enough.
    let lacking = there.iter().map(|(with, node)| {
        let denied = [*with, node].into_iter().filter(|path| !usable(path));
        let denied: Vec<_> = denied.map(|path| path.display().to_string()).collect();
        denied.join(" and ")
    });
    let lacking: Vec<_> = lacking.collect();
    let fact = format!("this user may not read and write {}", lacking.join(", or "));
    let remedy = "give it to a group of this user (chgrp, chmod g+rw), permanently by a udev rule";
    Step::blocker("node", fact, remedy)
}
