//! Which processes this one sees, and whether others are hidden.

use std::fs;
use std::io;

use rustix::process::geteuid;

/// Lists the PIDs of all processes that this one can see (`/proc`), sorted.
///
/// # Errors
///
/// If this process has no `/proc`.
pub fn pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    pids.sort_unstable();
    Ok(pids)
}

/// Checks that this process has a `/proc` of its own PID namespace; without it no process can be read.
pub(crate) fn check() -> io::Result<()> {
    fs::read_link("/proc/self").map(drop)
}

/// The privilege that this process would need to read other processes.
pub fn missing_privilege() -> &'static str {
    if geteuid().is_root() {
        "needs CAP_SYS_PTRACE"
    } else {
        "needs root"
    }
}

/// Which processes may be hidden from this one; `None` if it sees all.
pub fn hidden_processes() -> Option<&'static str> {
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

/// Whether `/proc` hides the processes of other users, according to the text of `mountinfo`.
fn is_hiding(mountinfo: &str) -> bool {
    let on_proc = |line: &&str| line.split(' ').nth(4) == Some("/proc");
    // The last mount lies on top.
    let options = mountinfo.lines().rfind(on_proc);
    let options = options.and_then(|line| line.rsplit(' ').next());
    let mut options = options.unwrap_or_default().split(',');
    let hides = |value: &str| !matches!(value, "0" | "off");
    options.any(|option| option.strip_prefix("hidepid=").is_some_and(hides))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
