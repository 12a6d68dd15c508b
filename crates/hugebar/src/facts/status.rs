//! The one parser of `/proc/PID/status`. Reading that file is harmless: it walks no page tables.

use std::fs;
use std::io;

use crate::leaf::KIB;

/// What `/proc/PID/status` says about a process. A field is `None` if its line is missing or malformed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The size of its page tables in bytes (`VmPTE`): PTE, PMD and PUD tables (`mm_pgtables_bytes`), without the levels
    /// above. A kernel thread has none.
    pub vm_pte: Option<u64>,
    /// Its locked memory in bytes (`VmLck`), including what a type1 container maps for it
    /// (`drivers/vfio/vfio_iommu_type1.c`, `vfio_lock_acct`).
    pub vm_locked: Option<u64>,
    /// The length of all its mappings in bytes (`VmSize`).
    pub vm_size: Option<u64>,
    /// The number of its threads (`Threads`).
    pub threads: Option<u64>,
    /// Its ignored signals, signal N as bit N - 1 (`SigIgn`).
    pub ignored_signals: Option<u64>,
    /// Its effective capabilities, capability N as bit N (`CapEff`).
    pub effective_capabilities: Option<u64>,
    /// Whether transparent huge pages are on for it (`THP_enabled`, since Linux 5.0). They are off after
    /// `PR_SET_THP_DISABLE`, and on a kernel without them.
    pub thp_enabled: Option<bool>,
}

impl Status {
    /// Reads the status of this process (`/proc/self/status`).
    ///
    /// # Errors
    ///
    /// If this process sees no `/proc`.
    pub fn own() -> io::Result<Self> {
        fs::read("/proc/self/status").map(|text| Self::parse(&text))
    }

    /// Parses the text of such a file. The process name in it can be any bytes, but cannot forge a line: the kernel escapes
    /// line breaks.
    ///
    /// ```
    /// use hugebar::facts::Status;
    /// let status = Status::parse(b"Name:\tqemu\nVmPTE:\t    8812 kB\nThreads:\t3\n");
    /// assert_eq!((status.vm_pte, status.threads), (Some(8812 << 10), Some(3)));
    /// ```
    pub fn parse(text: &[u8]) -> Self {
        let mut status = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else {
                continue;
            };
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            match name {
                "VmPTE" => status.vm_pte = kib(value),
                "VmLck" => status.vm_locked = kib(value),
                "VmSize" => status.vm_size = kib(value),
                "Threads" => status.threads = value.parse().ok(),
                "SigIgn" => status.ignored_signals = mask(value),
                "CapEff" => status.effective_capabilities = mask(value),
                "THP_enabled" => status.thp_enabled = flag(value),
                _ => {}
            }
        }
        status
    }
}

fn kib(value: &str) -> Option<u64> {
    let kib: u64 = value.strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(KIB)
}

fn mask(value: &str) -> Option<u64> {
    u64::from_str_radix(value, 16).ok()
}

fn flag(value: &str) -> Option<bool> {
    Some(value.parse::<u64>().ok()? != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_status() {
        // As Linux 6.12 shows them. The process chose these bytes as its name.
        let text = b"Name:\tx\\nThreads: 9 \xff\nUmask:\t0022\nThreads:\t3\nVmSize:\t   12345 kB\n\
            VmLck:\t    4096 kB\nVmPTE:\t    8812 kB\nSigIgn:\t0000000000001001\nCapEff:\t000001ffffffffff\nTHP_enabled:\t0\n\
            untag_mask:\t0xffffffffffffffff\n";
        let expected = Status {
            vm_pte: Some(8812 << 10),
            vm_locked: Some(4 << 20),
            vm_size: Some(12345 << 10),
            threads: Some(3),
            ignored_signals: Some(0x1001),
            effective_capabilities: Some(0x1ff_ffff_ffff),
            thp_enabled: Some(false),
        };
        assert_eq!(Status::parse(text), expected);
    }

    #[test]
    fn what_is_not_there_or_makes_no_sense_is_not_known() {
        let nothing = Status::default();
        for text in [
            "",
            "Name:\tVmPTE: 1 kB\n",
            "NoVmPTE:\t1 kB\n",
            "VmPTE:\t1\n",
            "VmPTE:\t1 MB\n",
            "VmSize:\t kB\n",
            "VmPTE:\t-1 kB\n",
            "VmPTE:\t18446744073709551615 kB\n",
            "Threads:\tmany\nCapEff:\tnonsense\nTHP_enabled:\tperhaps\nSigIgn:\n",
        ] {
            assert_eq!(Status::parse(text.as_bytes()), nothing, "{text:?}");
        }
    }

    #[test]
    fn this_process_has_page_tables_and_threads() {
        let own = Status::own().unwrap();
        assert!(own.vm_pte.is_some_and(|bytes| bytes > 0), "{own:?}");
        assert!(own.threads.is_some_and(|threads| threads > 0), "{own:?}");
        assert!(own.effective_capabilities.is_some(), "{own:?}");
        assert!(own.ignored_signals.is_some(), "{own:?}");
    }
}
