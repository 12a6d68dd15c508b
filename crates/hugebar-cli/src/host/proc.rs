//! Other processes, by what `/proc` tells of them without disturbing them.
//!
//! `maps`, `status`, `fd` and `fdinfo` are harmless to read; smaps, smaps_rollup and numa_maps are not:
//! they take away the 1 GiB leaves of the process.

use std::fs;
use std::io;

use rustix::process::geteuid;

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
    fn a_process_that_is_not_there_has_ended() {
        assert!(ended(&read(u32::MAX, "maps").unwrap_err()));
        assert!(ended(&io::Error::from_raw_os_error(NO_SUCH_PROCESS)));
        assert!(!ended(&io::Error::from_raw_os_error(13)));
    }
}
