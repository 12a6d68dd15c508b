//! Other processes, by what `/proc` tells of them without disturbing them.
//!
//! `maps`, `status`, `fd` and `fdinfo` are harmless to read; smaps, smaps_rollup and numa_maps are not:
//! they take away the 1 GiB leaves of the process.

use std::fs;
use std::io;

use rustix::process::geteuid;

use crate::failure::{Failure, host};

/// `ESRCH`: what files of a process say once it has ended.
const NO_SUCH_PROCESS: i32 = 3;

/// A file that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) number: u32,
    /// Its path, or what the kernel calls it: `anon_inode:[vfio-device]`.
    pub(crate) target: String,
}

/// Numbers of all processes that this one can see.
pub(crate) fn pids() -> io::Result<Vec<u32>> {
    let mut pids = numbers("/proc")?;
    pids.sort_unstable();
    Ok(pids)
}

/// That this process sees a `/proc` of its own, without which nothing could be told of any process.
pub(crate) fn check() -> Result<(), Failure> {
    fs::read_link("/proc/self")
        .map(drop)
        .map_err(host("/proc/self"))
}

/// Why there may be processes that this one does not see at all; none where it sees every one.
pub(crate) fn hidden() -> Option<&'static str> {
    // `PROC_PID_INIT_INO` of include/uapi/linux/nsfs.h. Kernels without namespaces have no such file.
    const FIRST: &str = "pid:[4026531836]";
    let namespace = fs::read_link("/proc/self/ns/pid");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if namespace.is_ok_and(|namespace| namespace.as_os_str() != FIRST) {
        Some("outside of this PID namespace")
    } else if is_hiding(&mounts) && !geteuid().is_root() {
        Some("of other users, which /proc hides (hidepid)")
    } else {
        None
    }
}

/// Whether `/proc` hides the processes of other users, by the text of `mountinfo`.
fn is_hiding(mountinfo: &str) -> bool {
    let on_proc = |line: &&str| line.split(' ').nth(4) == Some("/proc");
    // What was mounted last lies on top.
    let options = mountinfo.lines().rfind(on_proc);
    let options = options.and_then(|line| line.rsplit(' ').next());
    let mut options = options.unwrap_or_default().split(',');
    let hides = |value: &str| !matches!(value, "0" | "off");
    options.any(|option| option.strip_prefix("hidepid=").is_some_and(hides))
}

/// A text file of a process.
pub(crate) fn read(pid: u32, name: &str) -> io::Result<String> {
    let bytes = fs::read(format!("/proc/{pid}/{name}"))?;
    // Names and paths can be any bytes.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The name of a process (`comm`); empty where it is not to be had. Processes choose their names: what a
/// terminal would obey is left out.
pub(crate) fn name(pid: u32) -> String {
    let name = read(pid, "comm").unwrap_or_default();
    name.trim_end().replace(char::is_control, "?")
}

/// What this process would need to look at any other.
pub(crate) fn lacking() -> &'static str {
    if geteuid().is_root() {
        "needs CAP_SYS_PTRACE"
    } else {
        "needs root"
    }
}

/// What a process has open.
pub(crate) fn descriptors(pid: u32) -> io::Result<Vec<Descriptor>> {
    let folder = format!("/proc/{pid}/fd");
    let mut descriptors = Vec::new();
    for number in numbers(&folder)? {
        // Closed while we look.
        let Ok(target) = fs::read_link(format!("{folder}/{number}")) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        descriptors.push(Descriptor { number, target });
    }
    Ok(descriptors)
}

/// Whether a failure says that the process has ended.
pub(crate) fn ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(NO_SUCH_PROCESS)
}

fn numbers(folder: &str) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_there_and_has_files() {
        let own = std::process::id();
        assert!(pids().unwrap().contains(&own));
        assert!(read(own, "maps").unwrap().contains("[stack]"));
        assert!(!name(own).is_empty());
        let file = fs::File::open("/proc/self/status").unwrap();
        let open = descriptors(own).unwrap();
        assert!(
            open.iter().any(|own| own.target.ends_with("/status")),
            "{open:?}"
        );
        drop(file);
    }

    #[test]
    fn hidden_processes_are_told_by_the_topmost_mount() {
        let line = |options: &str| format!("36 25 0:32 / /proc rw,nosuid - proc proc {options}\n");
        assert!(is_hiding(&line("rw,hidepid=invisible")));
        assert!(is_hiding(&line("rw,hidepid=2,gid=5")));
        for options in ["rw", "rw,hidepid=off", "rw,hidepid=0"] {
            assert!(!is_hiding(&line(options)), "{options}");
        }
        assert!(!is_hiding(&(line("rw,hidepid=2") + &line("rw"))));
        let elsewhere = line("rw,hidepid=2").replace("/proc rw", "/mnt/proc rw");
        assert!(!is_hiding(&elsewhere) && !is_hiding(""));
        assert!(check().is_ok());
    }

    #[test]
    fn a_process_that_is_not_there_has_ended() {
        assert!(ended(&read(u32::MAX, "maps").unwrap_err()));
        assert!(ended(&io::Error::from_raw_os_error(NO_SUCH_PROCESS)));
        assert!(!ended(&io::Error::from_raw_os_error(13)));
    }
}
