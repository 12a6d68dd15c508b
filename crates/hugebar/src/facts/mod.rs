//! Facts about this machine and process: leaf sizes, kernel, THP policy, prctl. Observations
//! only, except for [`ThpDisabled::allow_hinted`].

mod features;
mod kernel;
mod status;
mod thp;

#[cfg(not(target_arch = "x86_64"))]
use std::fs;

#[cfg(target_arch = "x86_64")]
use crate::leaf::GIB;
use crate::leaf::LeafSizes;
use crate::sys::process;

pub use features::Features;
pub use kernel::KernelVersion;
pub use status::Status;
pub use thp::{ThpDisabled, ThpGate, ThpPolicy};

/// Facts, observed once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The leaf sizes of this machine's page tables.
    pub leaf_sizes: LeafSizes,
    /// `uname -r`.
    pub release: String,
    /// The release's version number, if it starts with one.
    pub kernel: Option<KernelVersion>,
    /// The system's policy for transparent huge pages; `None` if THP is not built in.
    pub thp: Option<ThpPolicy>,
    /// Whether THP is off for this process (`PR_SET_THP_DISABLE`, inherited over fork and exec).
    pub thp_disabled: ThpDisabled,
}

impl Facts {
    /// Observes the facts (`uname`, `prctl(PR_GET_THP_DISABLE)`, `/sys/kernel/mm/transparent_hugepage`, CPUID).
    pub fn observe() -> Self {
        let release = process::kernel_release();
        Self {
            leaf_sizes: leaf_sizes(),
            kernel: KernelVersion::parse(&release),
            release,
            thp: ThpPolicy::observe(),
            thp_disabled: ThpDisabled::observe(),
        }
    }

    /// The features of this kernel, according to its release.
    pub fn features(&self) -> Features {
        Features::of(&self.release)
    }

    /// The leaf sizes that this kernel has for device memory: all of the machine's, unless its release says
    /// that it has only the base page, as upstream before Linux 6.12.
    ///
    /// A distribution may have backported large leaves to an older version
    /// ([`Features::huge_device_leaves`]); [`crate::census`] counts them in any case.
    pub fn device_leaf_sizes(&self) -> LeafSizes {
        if self.features().huge_device_leaves() == Some(false) {
            self.leaf_sizes.only_base()
        } else {
            self.leaf_sizes
        }
    }

    /// Whether this kernel asks the THP policy before it installs large leaves of device memory; `None` if
    /// its release does not tell ([`Features::asks_thp_policy`]).
    pub fn asks_thp_policy(&self) -> Option<bool> {
        self.features().asks_thp_policy()
    }

    /// Whether the THP policy lets a mapping of device memory have large leaves, by the version of this kernel.
    /// `hinted` says whether it was hinted with `MADV_HUGEPAGE`, if known.
    ///
    /// Ignores everything else that can limit it to base pages: a kernel without THP or without large leaves,
    /// `PR_SET_THP_DISABLE`, `MADV_NOHUGEPAGE`.
    pub fn thp_gate(&self, hinted: Option<bool>) -> ThpGate {
        let allows = self.thp.map_or(Some(true), |policy| policy.allows(hinted));
        match (self.asks_thp_policy(), allows) {
            (Some(false), _) | (_, Some(true)) => ThpGate::Open,
            (Some(true), Some(false)) => ThpGate::Closed,
            _ => ThpGate::Unknown,
        }
    }
}

/// The leaf sizes of this machine's page tables that Linux uses for device memory.
///
/// On x86-64 this uses CPUID, without a system call.
#[cfg(target_arch = "x86_64")]
pub fn leaf_sizes() -> LeafSizes {
    // Without the CPU's 1 GiB pages there is no PUD leaf (`has_transparent_pud_hugepage`).
    if process::has_gib_pages() {
        LeafSizes::X86_64
    } else {
        LeafSizes::X86_64.below(GIB).unwrap_or(LeafSizes::X86_64)
    }
}

/// The leaf sizes of this machine's page tables that Linux uses for device memory.
///
/// On arm64 they follow from the page size, without a system call; elsewhere they are read from sysfs.
#[cfg(not(target_arch = "x86_64"))]
pub fn leaf_sizes() -> LeafSizes {
    let page = process::page_size();
    let known = [
        LeafSizes::ARM64_4K,
        LeafSizes::ARM64_16K,
        LeafSizes::ARM64_64K,
    ];
    let sizes = if cfg!(target_arch = "aarch64") {
        known.into_iter().find(|sizes| sizes.base() == page)
    } else {
        pmd_size().and_then(|pmd| LeafSizes::new(&[page, pmd]))
    };
    sizes
        .or_else(|| LeafSizes::new(&[page]))
        .unwrap_or(LeafSizes::ARM64_4K.only_base())
}

#[cfg(not(target_arch = "x86_64"))]
fn pmd_size() -> Option<u64> {
    let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::{GIB, KIB};

    #[test]
    fn this_machine_has_pages_and_a_kernel() {
        let facts = Facts::observe();
        assert_eq!(facts.leaf_sizes.base(), process::page_size());
        assert!(facts.kernel.is_some(), "{}", facts.release);
    }

    #[test]
    fn the_gate_is_closed_where_the_kernel_asks_a_policy_that_says_no() {
        use ThpGate::{Closed, Open};
        use ThpPolicy::{Always, Madvise, Never};
        let asks = "6.18.15";
        let asks_not = "7.3.4";
        let unknown = "6.17.0-8-generic";
        for (release, thp, hinted, expected) in [
            (asks, Some(Always), Some(false), Open),
            (asks, Some(Never), Some(true), Closed),
            (asks, Some(Madvise), Some(true), Open),
            (asks, Some(Madvise), Some(false), Closed),
            (asks, Some(Madvise), None, ThpGate::Unknown),
            (asks, Some(ThpPolicy::Unknown), Some(true), ThpGate::Unknown),
            (asks, None, None, Open),
            (asks_not, Some(Never), Some(false), Open),
            (asks_not, Some(ThpPolicy::Unknown), None, Open),
            (unknown, Some(Never), Some(true), ThpGate::Unknown),
            (unknown, Some(Always), None, Open),
        ] {
            let mut facts = Facts::observe();
            facts.release = release.to_owned();
            facts.kernel = KernelVersion::parse(release);
            facts.thp = thp;
            let gate = facts.thp_gate(hinted);
            assert_eq!(gate, expected, "{release} {thp:?} {hinted:?}");
        }
    }

    #[test]
    fn device_leaves_came_with_6_12() {
        let mut facts = Facts::observe();
        facts.leaf_sizes = LeafSizes::X86_64;
        for (release, largest) in [
            ("6.1.0-56-cloud-amd64", 4 * KIB),
            ("6.11.9", 4 * KIB),
            ("6.12.0-rc1", GIB),
            ("5.14.0-611.el9_7.x86_64", GIB),
            ("7.3.4+deb13-cloud-amd64", GIB),
            ("mystery", GIB),
        ] {
            facts.release = release.to_owned();
            assert_eq!(facts.device_leaf_sizes().largest(), largest, "{release}");
        }
    }
}
