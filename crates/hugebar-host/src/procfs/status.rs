//! `/proc/PID/status`, which is harmless to read.

use std::fs;
use std::io;

use super::lines::field;

/// What `/proc/PID/status` says of a process.
#[derive(Clone, Debug)]
pub struct Status(String);

impl Status {
    /// Reads that of this process (`/proc/self/status`).
    ///
    /// # Errors
    ///
    /// When this process sees no `/proc`.
    pub fn own() -> io::Result<Self> {
        fs::read_to_string("/proc/self/status").map(Self)
    }

    /// The signals that it ignores, signal N as bit N - 1 (`SigIgn`).
    pub fn ignored_signals(&self) -> Option<u64> {
        self.mask("SigIgn")
    }

    /// Its effective capabilities, capability N as bit N (`CapEff`).
    pub fn effective_capabilities(&self) -> Option<u64> {
        self.mask("CapEff")
    }

    /// Whether transparent huge pages are on for it (`THP_enabled`, since Linux 5.0): not after
    /// `PR_SET_THP_DISABLE`, and not on a kernel without them.
    pub fn thp_enabled(&self) -> Option<bool> {
        field(&self.0, "THP_enabled").map(|enabled| enabled != "0")
    }

    fn mask(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(field(&self.0, name)?, 16).ok()
    }
}

impl From<String> for Status {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_hexadecimal() {
        let text =
            "Name:\tx\nSigIgn:\t0000000000001001\nCapEff:\t000001ffffffffff\nTHP_enabled:\t0\n";
        let status = Status::from(text.to_owned());
        assert_eq!(status.ignored_signals(), Some(0x1001));
        assert_eq!(status.effective_capabilities(), Some(0x1ff_ffff_ffff));
        assert_eq!(status.thp_enabled(), Some(false));
        let other = Status::from("Name:\tSigIgn: 1\nCapEff:\tnonsense\n".to_owned());
        assert_eq!(other.ignored_signals(), None);
        assert_eq!(other.effective_capabilities(), None);
        assert_eq!(other.thp_enabled(), None);
    }
}
