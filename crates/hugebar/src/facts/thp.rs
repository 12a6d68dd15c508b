//! The system's policy for transparent huge pages.

use std::fmt;
use std::fs;
use std::io;
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
    /// It cannot be read because this process has no sysfs, for example in a jail.
    Unknown,
}

/// Whether the THP policy lets device memory have large leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThpGate {
    /// It does, or this kernel ignores it.
    Open,
    /// It limits device memory to base pages.
    Closed,
    /// Unknown: this kernel may ask it, the policy cannot be read, or the mapping may be hinted.
    Unknown,
}

/// The memory management's folder in sysfs.
const MM: &str = "/sys/kernel/mm";

impl ThpPolicy {
    /// Reads the policy; `None` if THP is not built in.
    pub(super) fn observe() -> Option<Self> {
        let folder = Path::new(MM).join("transparent_hugepage");
        match fs::read_to_string(folder.join("enabled")) {
            Ok(text) => Some(Self::parse(&text).unwrap_or(Self::Unknown)),
            // Every kernel has the parent folder.
            Err(_) if Path::new(MM).is_dir() && !folder.exists() => None,
            Err(_) => Some(Self::Unknown),
        }
    }

    /// Whether it allows huge pages for a mapping that is hinted with `MADV_HUGEPAGE` or not; `None` if that
    /// is unknown.
    pub fn allows(self, hinted: Option<bool>) -> Option<bool> {
        match self {
            Self::Always => Some(true),
            Self::Madvise => hinted,
            Self::Never => Some(false),
            Self::Unknown => None,
        }
    }

    /// Parses the choice in brackets: `always [madvise] never`.
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

/// The state of `PR_SET_THP_DISABLE` of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThpDisabled {
    /// Not set: the policy applies.
    No,
    /// THP is off except for hinted memory (`PR_THP_DISABLE_EXCEPT_ADVISED`, since Linux 6.18).
    ExceptAdvised,
    /// THP is off.
    Yes,
}

/// `PR_THP_DISABLE_EXCEPT_ADVISED` of `include/uapi/linux/prctl.h` (Linux 6.18).
const EXCEPT_ADVISED: u32 = 1 << 1;

impl ThpDisabled {
    /// Reads it (`prctl(PR_GET_THP_DISABLE)`).
    pub(super) fn observe() -> Self {
        // The kernel returns the flags that it was set with, plus one.
        match process::thp_disabled() {
            // A kernel without THP has nothing to disable.
            Ok(0) | Err(_) => Self::No,
            Ok(flags) if flags & EXCEPT_ADVISED != 0 => Self::ExceptAdvised,
            Ok(_) => Self::Yes,
        }
    }

    /// Lets hinted memory of this process have huge pages again, also in mappings that exist already, and in the programs
    /// that it starts (`prctl(PR_SET_THP_DISABLE)`, which needs no privilege). Returns what is set then.
    ///
    /// Where the kernel can (since Linux 6.18), THP stays off for memory that is not hinted, as whoever disabled it
    /// wanted. Otherwise the policy applies to all memory.
    ///
    /// # Errors
    /// The kernel's, if it allows neither.
    pub fn allow_hinted() -> io::Result<Self> {
        match Self::observe() {
            Self::Yes if process::set_thp_disabled(true, EXCEPT_ADVISED).is_err() => {
                process::set_thp_disabled(false, 0)?;
            }
            _ => {}
        }
        Ok(Self::observe())
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
