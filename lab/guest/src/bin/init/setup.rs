//! The guest's file systems, kernel modules and policy for transparent huge pages.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use hugebar_lab_guest::Thp;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

/// Mounts the file systems that programs expect of a Linux system.
pub(crate) fn mounts() -> Result<()> {
    for (kind, target, needed) in [
        ("proc", "/proc", true),
        ("sysfs", "/sys", true),
        ("devtmpfs", "/dev", true),
        ("tmpfs", "/tmp", true),
        ("tmpfs", "/run", true),
        ("devpts", "/dev/pts", false),
        ("tmpfs", "/dev/shm", false),
        ("debugfs", "/sys/kernel/debug", false),
    ] {
        let mounted = fs::create_dir_all(target)
            .map_err(anyhow::Error::from)
            .and_then(|()| {
                mount(kind, target, kind, MountFlags::empty(), None).map_err(anyhow::Error::from)
            })
            .with_context(|| format!("cannot mount {kind} on {target}"));
        // A small kernel may lack the others, and a command that needs one of them will report it.
        if needed {
            mounted?;
        }
    }
    Ok(())
}

/// Sets the policy for transparent huge pages.
pub(crate) fn thp(policy: Thp) -> Result<()> {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    fs::write(path, policy.as_str()).with_context(|| format!("cannot write {policy} to {path}"))
}

/// Loads a kernel module (`finit_module`) whose dependencies are already loaded.
pub(crate) fn load_module(path: &str) -> Result<()> {
    let file = File::open(Path::new(path)).with_context(|| format!("cannot open {path}"))?;
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot load {path}")),
    }
}
