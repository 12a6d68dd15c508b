//! The system's policy for transparent huge pages.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::sys::process;

/// `/sys/kernel/mm/transparent_hugepage/enabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThpPolicy {
    /// For all memory.
    Always,
    /// For memory hinted with `MADV_HUGEPAGE`.
    Madvise,
    /// For none.
    Never,
    /// It cannot be read: this process sees no sysfs, in a jail for example.
    Unknown,
}

/// Whether the THP policy lets device memory have large leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThpGate {
    /// It does, or this kernel does not ask it.
    Open,
    /// It keeps device memory to base pages.
    Closed,
    /// It may: whether this kernel asks it, what it is, or whether the mapping is hinted is not known.
    Unknown,
}

/// What the memory management has in sysfs.
const MM: &str = "/sys/kernel/mm";

impl ThpPolicy {
    /// Reads the policy; `None` where THP is not built in.
    pub(super) fn observe() -> Option<Self> {
        let folder = Path::new(MM).join("transparent_hugepage");
        match fs::read_to_string(folder.join("enabled")) {
            Ok(text) => Some(Self::parse(&text).unwrap_or(Self::Unknown)),
            // The kernel has the folder's parent in any case.
            Err(_) if Path::new(MM).is_dir() && !folder.exists() => None,
            Err(_) => Some(Self::Unknown),
        }
    }

    /// Whether it lets a mapping have huge pages that is hinted with `MADV_HUGEPAGE`, or is not; `None` where it is
    /// not known which.
    pub fn allows(self, hinted: Option<bool>) -> Option<bool> {
        match self {
            Self::Always => Some(true),
            Self::Madvise => hinted,
            Self::Never => Some(false),
            Self::Unknown => None,
        }
    }

    /// The choice in brackets: `always [madvise] never`.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once('[')?;
        match rest.split_once(']')?.0 {
            "always" => Some(Self::Always),
            "madvise" => Some(Self::Madvise),
            "never" => Some(Self::Never),
            _ => None,
        }
    }
}

/// What `PR_SET_THP_DISABLE` has done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThpDisabled {
    /// Nothing: the policy counts.
    No,
    /// THP is off but for hinted memory (`PR_THP_DISABLE_EXCEPT_ADVISED`, since Linux 6.18).
    ExceptAdvised,
    /// THP is off.
    Yes,
}

impl ThpDisabled {
    /// Asks (`prctl(PR_GET_THP_DISABLE)`).
    pub(super) fn observe() -> Self {
        // The flags that it was set with, plus one.
        const EXCEPT_ADVISED: u32 = 1 << 1;
        match process::thp_disabled() {
            // A kernel without THP has nothing to disable.
            Ok(0) | Err(_) => Self::No,
            Ok(flags) if flags & EXCEPT_ADVISED != 0 => Self::ExceptAdvised,
            Ok(_) => Self::Yes,
        }
    }
}

impl fmt::Display for ThpPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Madvise => "madvise",
            Self::Never => "never",
            Self::Unknown => "unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_in_brackets() {
        let policy = |text| ThpPolicy::parse(text);
        assert_eq!(policy("[always] madvise never\n"), Some(ThpPolicy::Always));
        assert_eq!(policy("always [madvise] never\n"), Some(ThpPolicy::Madvise));
        assert_eq!(policy("always madvise [never]\n"), Some(ThpPolicy::Never));
        assert_eq!(policy("always madvise never"), None);
    }
}
