//! The limit for locked memory, to which memory mapped for DMA is charged.

use std::fs;
use std::io;

use hugebar::facts::Status;
use hugebar::leaf::{Bytes, GIB};

use super::step::Step;

/// `MLOCK_LIMIT` of `include/uapi/linux/resource.h`: the kernel's default (64 KiB before 5.16).
const UNRAISED_MEMLOCK: u64 = 8 << 20;

/// `CAP_IPC_LOCK`: no limit for locked memory.
const CAP_IPC_LOCK: u32 = 14;

/// How much memory this process may pin for DMA.
pub(super) fn step() -> Option<Step> {
    let capabilities = Status::own().ok()?.effective_capabilities?;
    // The kernel checks the capability in the initial user namespace.
    let first = is_first(fs::read_to_string("/proc/self/uid_map"));
    if capabilities >> CAP_IPC_LOCK & 1 == 1 && first {
        return Some(Step::ok("memlock", "no limit (CAP_IPC_LOCK)"));
    }
    let limit = soft_limit(&fs::read_to_string("/proc/self/limits").ok()?)?;
    Some(memlock_step(limit))
}

/// Whether a user namespace with these users is the initial one.
fn is_first(users: io::Result<String>) -> bool {
    match users {
        Ok(users) => maps_every_user(&users),
        // Kernels without user namespaces have no such file. An unreadable file may belong to another namespace.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Whether a user namespace, by the text of its `uid_map`, is the initial one or equivalent.
fn maps_every_user(uid_map: &str) -> bool {
    let words: Vec<_> = uid_map.split_ascii_whitespace().collect();
    words == ["0", "0", "4294967295"]
}

/// The step for a limit. BARs are never charged, but programs that map them also map memory for the device.
fn memlock_step(limit: Option<u64>) -> Step {
    const STEP: &str = "memlock";
    let Some(limit) = limit else {
        return Step::ok(STEP, "no limit");
    };
    let fact = format!("{} of memory can be mapped for DMA", Bytes(limit));
    let remedy = "raise RLIMIT_MEMLOCK above the memory of the guest or driver: ulimit -l, \
                  LimitMEMLOCK= of systemd, --ulimit memlock= of containers";
    if limit <= UNRAISED_MEMLOCK {
        let fact = format!("only {fact}, the kernel's default");
        return Step::blocker(STEP, fact, remedy);
    }
    if limit < GIB {
        return Step::warning(STEP, fact, remedy);
    }
    Step::ok(STEP, fact)
}

/// The soft limit in the text of `/proc/self/limits`; `Some(None)` where there is none.
fn soft_limit(limits: &str) -> Option<Option<u64>> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::step::Status as Is;

    #[test]
    fn limits_in_bytes_or_none() {
        let line = |soft| format!("Limit\nMax locked memory         {soft}  8388608  bytes\n");
        assert_eq!(soft_limit(&line("65536")), Some(Some(65536)));
        assert_eq!(soft_limit(&line("unlimited")), Some(None));
        assert_eq!(soft_limit("Max processes 1 1"), None);
    }

    #[test]
    fn capabilities_count_in_the_first_user_namespace() {
        assert!(maps_every_user("         0          0 4294967295\n"));
        assert!(!maps_every_user("         0       1000          1\n"));
        assert!(!maps_every_user("0 100000 65536\n"));
        assert!(!maps_every_user(""));
        assert!(is_first(Err(io::ErrorKind::NotFound.into())));
        assert!(!is_first(Err(io::ErrorKind::PermissionDenied.into())));
    }

    #[test]
    fn a_limit_that_nobody_has_raised_blocks() {
        let status = |limit| memlock_step(limit).status;
        assert_eq!(status(Some(64 << 10)), Is::Blocker);
        assert_eq!(status(Some(8 << 20)), Is::Blocker);
        assert_eq!(status(Some(256 << 20)), Is::Warning);
        assert_eq!(status(Some(GIB)), Is::Ok);
        assert_eq!(status(None), Is::Ok);
    }
}
