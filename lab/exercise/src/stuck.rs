//! A process that waits inside `mmap`, with its address space locked, for as long as it likes: any user can
//! create one, with a FUSE file system in their own user namespace.
//!
//! One process reads the file through the page cache, and the file system never answers: the page stays
//! locked. Another maps the file for direct I/O, for which the kernel first drops the cached pages, and so
//! waits for that page. Meanwhile no process can read its `/proc/PID/maps`.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::process::parent_id;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, mount};
use rustix::process::{getgid, getuid};

/// The root of the file system is a file, not a folder.
const FILE: &str = "/tmp/stuck";

/// Messages between the processes, and to a test that waits for this one.
const READING: &str = "reading";
const STUCK: &str = "stuck";

/// Becomes the stuck process. It ends with the server, which is killed along with it.
pub(crate) fn run() -> Result<()> {
    File::create(FILE)?;
    let (user, group) = (getuid().as_raw(), getgid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).context("unshare")?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let device = device.context("/dev/fuse")?;
    let options = format!(
        "fd={},rootmode=100644,user_id=0,group_id=0\0",
        device.as_raw_fd()
    );
    let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes())?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    mount("stuck", FILE, "fuse", flags, Some(options)).context("mount")?;

    let own = std::env::current_exe()?;
    let mut server = Command::new(&own)
        .args(["stuck-part", "server"])
        .stdin(device)
        .stdout(Stdio::piped())
        .spawn()?;
    // Open it first, because opening it also drops cached pages.
    let file = File::open(FILE)?;
    Command::new(&own).args(["stuck-part", "reader"]).spawn()?;
    let mut said = BufReader::new(server.stdout.take().context("a pipe")?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    ensure!(line.trim_end() == READING, "{line:?}");
    map(&file)
}

/// The helper processes.
pub(crate) fn part(name: &str) -> Result<()> {
    match name {
        "server" => serve(),
        _ => {
            let read = File::open(FILE)?.read(&mut [0]);
            anyhow::bail!("an unexpected answer: {read:?}")
        }
    }
}

/// Maps the file over an existing mapping, which is then locked as well, in case the kernel reads
/// `maps` without the lock of the whole address space.
#[allow(unsafe_code, reason = "the system call that is to hang")]
fn map(file: &File) -> Result<()> {
    const LEN: usize = 1 << 16;
    let map = |at, flags, fd| {
        // SAFETY: the address is the kernel's choice, or that of unused memory that it chose here.
        unsafe { libc::mmap(at, LEN, libc::PROT_READ, libc::MAP_PRIVATE | flags, fd, 0) }
    };
    let place = map(std::ptr::null_mut(), libc::MAP_ANONYMOUS, -1);
    ensure!(place != libc::MAP_FAILED, "no memory");
    let mapped = map(place, libc::MAP_FIXED, file.as_raw_fd());
    anyhow::bail!("mmap has returned {mapped:?}")
}

/// Opcodes of `include/uapi/linux/fuse.h`.
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;

const FOPEN_DIRECT_IO: u32 = 1;

/// The file system. It answers until a process reads the file.
fn serve() -> Result<()> {
    let mut device = File::from(rustix::io::dup(rustix::stdio::stdin())?);
    let mut request = vec![0; 1 << 17];
    let mut flags = FOPEN_DIRECT_IO;
    let mut reading = false;
    loop {
        let length = device.read(&mut request)?;
        let word = |at: usize| -> Result<u32> {
            let bytes = request[..length].get(at..at + 4).context("a short one")?;
            Ok(u32::from_ne_bytes(bytes.try_into()?))
        };
        let answer = match word(4)? {
            INIT => init(),
            GETATTR if !reading => attributes(),
            // Only the first reader gets it.
            OPEN => vec![0, 0, mem::take(&mut flags), 0],
            READ if !reading => {
                reading = true;
                println!("{READING}");
                thread::spawn(tell_when_stuck);
                continue;
            }
            GETATTR | READ | INTERRUPT => continue,
            // A file system need not have it.
            _ => Vec::new(),
        };
        let error = if answer.is_empty() { -libc::ENOSYS } else { 0 };
        // A header: length, error, the number of the request.
        let length = u32::try_from(16 + 4 * answer.len())?;
        let header = [
            length,
            u32::from_ne_bytes(error.to_ne_bytes()),
            word(8)?,
            word(12)?,
        ];
        let words = header.into_iter().chain(answer);
        let bytes: Vec<_> = words.flat_map(u32::to_ne_bytes).collect();
        device.write_all(&bytes)?;
    }
}

/// `struct fuse_init_out`.
fn init() -> Vec<u32> {
    let mut words = vec![0; 16];
    let (major, minor, largest_write) = (7, 31, 1 << 12);
    words[0] = major;
    words[1] = minor;
    words[5] = largest_write;
    words
}

/// `struct fuse_attr_out`, valid for no time, so that each `stat` asks again.
fn attributes() -> Vec<u32> {
    let mut words = vec![0; 26];
    let (inode, size, mode, links) = (1, 1 << 16, 0o100_644, 1);
    words[4] = inode;
    words[6] = size;
    words[19] = mode;
    words[20] = links;
    words
}

/// Reports once the parent waits uninterruptibly.
fn tell_when_stuck() {
    let stat = format!("/proc/{}/stat", parent_id());
    let waits = || {
        let text = fs::read_to_string(&stat).unwrap_or_default();
        let state = text.rsplit(')').next().unwrap_or_default();
        state.trim_start().starts_with('D')
    };
    let mut seen = 0;
    while seen < 10 {
        seen = if waits() { seen + 1 } else { 0 };
        thread::sleep(Duration::from_millis(50));
    }
    eprintln!("{STUCK} {}", process::id());
}
