//! Processes with misleading file names: plain files at the paths of device files, and device
//! files at other paths.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hugebar::pci::Address;
use hugebar::vfio::Backend;
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::process::{chroot, getgid, getuid};

use crate::mapped;

/// Where VFIO's device files are.
const NODES: &str = "/dev/vfio";

/// The other nodes that mapping a device needs.
const OTHERS: [&str; 2] = ["/dev/iommu", "/dev/kvm"];

/// Longer than any test: a signal ends it.
const LONG: Duration = Duration::from_secs(600);

/// Keeps plain files open and mapped that are named like device files, which any user can do in their own mount
/// namespace; and the real ones opened by `O_PATH`, which needs no permission.
pub(crate) fn pose() -> Result<()> {
    let (user, group) = (getuid().as_raw(), getgid().as_raw());
    let named: Vec<OwnedFd> = nodes(Path::new(NODES))?
        .iter()
        .map(|(path, _)| open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))
        .collect::<Result<_, _>>()?;
    ensure!(!named.is_empty(), "no device files");
    // Root needs no user namespace, which small kernels lack.
    let users = match user {
        0 => CloneFlags::empty(),
        _ => CloneFlags::CLONE_NEWUSER,
    };
    unshare(CloneFlags::CLONE_NEWNS | users).context("unshare")?;
    if user != 0 {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    mount("posing", NODES, "tmpfs", MountFlags::empty(), None).context("mount")?;
    fs::create_dir(format!("{NODES}/devices"))?;
    let groups = (0..64).map(|group| format!("{NODES}/{group}"));
    let devices = (0..4).map(|device| format!("{NODES}/devices/vfio{device}"));
    let others = ["/tmp/anon_inode:[vfio-device]".to_owned()];
    let mut held = Vec::new();
    for path in groups.chain(devices).chain(others) {
        held.push(mapped_file(Path::new(&path))?);
    }
    say_and_wait("posing")?;
    drop((held, named));
    Ok(())
}

/// A plain file, open and mapped for good.
#[allow(unsafe_code, reason = "a mapping that is never touched")]
fn mapped_file(path: &Path) -> Result<File> {
    const LEN: usize = 1 << 30;
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    file.set_len(LEN as u64)?;
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: the address is the kernel's choice, and the memory is never used.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            LEN,
            protection,
            flags,
            file.as_raw_fd(),
            0,
        )
    };
    ensure!(at != libc::MAP_FAILED, io::Error::last_os_error());
    Ok(file)
}

/// Opens and maps a device in a jail, by its own device files.
pub(crate) fn jailed(address: Address, backend: Backend, close: bool) -> Result<()> {
    let jail = format!("/tmp/jail-{}", std::process::id());
    let jail = Path::new(&jail);
    for folder in ["proc", "sys", "dev/vfio/devices"] {
        DirBuilder::new()
            .recursive(true)
            .create(jail.join(folder))?;
    }
    let mut files = nodes(Path::new(NODES))?;
    files.extend(
        nodes(Path::new("/dev"))?
            .into_iter()
            .filter(|(path, _)| OTHERS.contains(&path.as_str())),
    );
    for (path, number) in files {
        let own = jail.join(path.trim_start_matches('/'));
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, &own, FileType::CharacterDevice, mode, number)?;
    }
    for folder in ["proc", "sys"] {
        mount_bind(Path::new("/").join(folder), jail.join(folder))?;
    }
    chroot(jail)?;
    std::env::set_current_dir("/")?;
    mapped::run(&[address], backend, close)
}

/// The character devices in a folder and those below it, with their numbers.
fn nodes(folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let data = fs::symlink_metadata(&path)?;
        if path.ends_with("vfio/devices") {
            found.extend(nodes(&path)?);
        } else if data.file_type().is_char_device() {
            found.push((path.display().to_string(), data.rdev()));
        }
    }
    Ok(found)
}

fn say_and_wait(word: &str) -> Result<()> {
    println!("{word}");
    io::stdout().flush()?;
    thread::sleep(LONG);
    Ok(())
}
