//! The features of a kernel, according to its release: yes, no, or unknown.
//!
//! Only this module knows in which version a feature came. Distributions that number releases themselves backport
//! features to old versions, so for their kernels only the features of the upstream version are certain.

use super::KernelVersion;

/// The features of a kernel, by its release (`uname -r`). An answer is `None` if the release does not tell.
///
/// ```
/// use hugebar::facts::Features;
/// assert_eq!(Features::of("6.1.192").huge_device_leaves(), Some(false));
/// assert_eq!(Features::of("6.12.0-55.12.1.el10_0.x86_64").huge_device_leaves(), Some(true));
/// // Red Hat backports features to its 5.14.
/// assert_eq!(Features::of("5.14.0-611.el9_7.x86_64").huge_device_leaves(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    version: Option<KernelVersion>,
    count: Count,
}

/// Who numbers a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    /// Upstream: all three numbers are those of a stable kernel.
    Upstream,
    /// Upstream, but without the third number: Debian 12 names its kernels by their ABI (`6.1.0-56-amd64`).
    UpstreamSeries,
    /// Upstream, before the release itself (`7.3.0-rc1`).
    Candidate,
    /// The distribution, or another builder, from the sources of this version on.
    Own,
    /// The same, from the sources of a candidate on.
    OwnCandidate,
}

impl Features {
    /// Parses a release, as `uname -r` shows it.
    pub fn of(release: &str) -> Self {
        Self {
            version: KernelVersion::parse(release),
            count: count(release),
        }
    }

    /// Whether device memory can have leaves larger than a page (6.12).
    pub fn huge_device_leaves(self) -> Option<bool> {
        self.since(6, 12)
    }

    /// Whether it asks the THP policy before it installs large leaves of device memory.
    ///
    /// All kernels with such leaves (6.12 on) did, until "mm/huge_memory: bypass THP tuneables for huge pfnmap
    /// mappings", which came with 7.3 and was backported to stable kernels ([`KernelVersion::asks_thp_policy`]).
    /// A kernel without such leaves does not ask.
    pub fn asks_thp_policy(self) -> Option<bool> {
        if !self.huge_device_leaves()? {
            return Some(false);
        }
        if self.since(7, 3)? {
            return Some(false);
        }
        let version = self.version?;
        let asks = |patch| KernelVersion { patch, ..version }.asks_thp_policy();
        match self.count {
            Count::Upstream => Some(asks(version.patch)),
            Count::UpstreamSeries => (asks(0) == asks(u32::MAX)).then_some(asks(0)),
            // Candidates come before all stable releases.
            Count::Candidate => Some(asks(0)),
            Count::Own | Count::OwnCandidate => None,
        }
    }

    /// Whether type1 maps device memory for DMA leaf by leaf (6.15) instead of page by page.
    pub fn dma_maps_by_leaf(self) -> Option<bool> {
        self.since(6, 15)
    }

    /// Whether VFIO exports BARs as dma-bufs, which iommufd can map (6.19).
    pub fn bars_as_dma_bufs(self) -> Option<bool> {
        self.since(6, 19)
    }

    /// Whether `/proc/PID/maps` shows a mapped BAR at its offset in the device's file (6.12) instead of its
    /// physical address.
    pub fn file_offsets_in_maps(self) -> Option<bool> {
        self.since(6, 12)
    }

    /// Whether `nvgrace_gpu_vfio_pci` handles the faults of the GPU's own memory with larger leaves too (6.19), instead of
    /// mapping all of it in base pages at once.
    pub fn nvgrace_gpu_huge_leaves(self) -> Option<bool> {
        self.since(6, 19)
    }

    /// Whether a bridge that is bound to its own driver makes its IOMMU group not viable (5.18).
    pub(crate) fn counts_bridges(self) -> Option<bool> {
        self.since(5, 18)
    }

    /// Whether it has a feature that came upstream with a version and was not backported to stable kernels.
    fn since(self, major: u32, minor: u32) -> Option<bool> {
        let version = self.version?;
        let (own, first) = ((version.major, version.minor), (major, minor));
        match self.count {
            Count::Upstream | Count::UpstreamSeries => Some(own >= first),
            // The table does not say with which candidate a feature came.
            Count::Candidate => (own != first).then_some(own > first),
            Count::Own => (own >= first).then_some(true),
            Count::OwnCandidate => (own > first).then_some(true),
        }
    }
}

/// Who numbers a release. Only the forms of distributions known to follow upstream count as upstream.
fn count(release: &str) -> Count {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (numbers, rest) = release.split_at(end.unwrap_or(release.len()));
    let (rest, candidate) = match rest.strip_prefix("-rc") {
        Some(behind) => (
            behind.trim_start_matches(|c: char| c.is_ascii_digit()),
            true,
        ),
        None => (rest, rest.starts_with("-0.rc")),
    };
    let upstream = match rest {
        "" => Some(Count::Upstream),
        _ => debian(numbers, rest)
            .or_else(|| fedora(rest))
            .or_else(|| arch(rest)),
    };
    // Stable releases have three numbers, as do most other builds; only other builds have a fourth.
    let upstream = upstream.filter(|_| numbers.split('.').count() <= 3);
    match (upstream, candidate) {
        (Some(_), true) => Count::Candidate,
        (Some(count), false) => count,
        (None, true) => Count::OwnCandidate,
        (None, false) => Count::Own,
    }
}

/// `+deb13-cloud-amd64`, `+bpo-arm64`, `-amd64` after an upstream version; `-56-cloud-amd64` and `-0.deb12.4-amd64`
/// after only its first two numbers.
fn debian(numbers: &str, rest: &str) -> Option<Count> {
    const ARCHITECTURES: [&str; 10] = [
        "amd64",
        "arm64",
        "arm64-16k",
        "686",
        "686-pae",
        "armmp",
        "armmp-lpae",
        "powerpc64le",
        "riscv64",
        "s390x",
    ];
    let suffix = ARCHITECTURES
        .iter()
        .find_map(|name| rest.strip_suffix(name)?.strip_suffix('-'))?;
    let kind = ["-cloud", "-rt"]
        .iter()
        .find_map(|kind| suffix.strip_suffix(kind));
    let suffix = kind.unwrap_or(suffix);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let named = |text: &str| text == "bpo" || text.strip_prefix("deb").is_some_and(is_number);
    match suffix.split_at_checked(1) {
        None => Some(Count::Upstream),
        Some(("+", name)) if named(name) => Some(Count::Upstream),
        // Ubuntu has such numbers too, but no flavour named after an architecture.
        Some(("-", abi)) if numbers.ends_with(".0") => {
            let backport = abi.strip_prefix("0.deb");
            let told = backport.map_or(is_number(abi), |own| own.split('.').all(is_number));
            told.then_some(Count::UpstreamSeries)
        }
        _ => None,
    }
}

/// `-200.fc43.x86_64`, and `-0.rc3.30.fc44.x86_64` before a release.
fn fedora(rest: &str) -> Option<Count> {
    let mut parts = rest.strip_prefix('-')?.split('.');
    let named = |part: &str| {
        let version = part.strip_prefix("fc");
        version.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    parts.any(named).then_some(Count::Upstream)
}

/// `-arch1-1`.
fn arch(rest: &str) -> Option<Count> {
    let (build, release) = rest.strip_prefix("-arch")?.split_once('-')?;
    let both = build.parse::<u32>().is_ok() && release.parse::<u32>().is_ok();
    both.then_some(Count::Upstream)
}

#[cfg(test)]
mod tests {
    use super::*;

    const YES: Option<bool> = Some(true);
    const NO: Option<bool> = Some(false);

    /// Huge leaves, whether the THP policy is asked, DMA maps by leaf, BARs as dma-bufs.
    #[test]
    fn releases_of_distributions() {
        for (release, expected) in [
            // Mainline and stable.
            ("5.14.0", [NO, NO, NO, NO]),
            ("6.1.192", [NO, NO, NO, NO]),
            ("6.11.9", [NO, NO, NO, NO]),
            ("6.12.0", [YES, YES, NO, NO]),
            ("6.12.114", [YES, YES, NO, NO]),
            ("6.12.115", [YES, NO, NO, NO]),
            ("6.17.13", [YES, YES, YES, NO]),
            ("6.18.53", [YES, YES, YES, NO]),
            ("6.18.54", [YES, NO, YES, NO]),
            ("7.1.13", [YES, YES, YES, YES]),
            ("7.2.7", [YES, YES, YES, YES]),
            ("7.2.8", [YES, NO, YES, YES]),
            ("7.3.4", [YES, NO, YES, YES]),
            ("8.0.0", [YES, NO, YES, YES]),
            // Candidates: a feature of this version may have come with a later candidate.
            ("6.12.0-rc1", [None, None, NO, NO]),
            ("6.17.0-rc3", [YES, YES, YES, NO]),
            ("6.18-rc5", [YES, YES, YES, NO]),
            ("7.3.0-rc1", [YES, None, YES, YES]),
            ("7.4.0-rc1", [YES, NO, YES, YES]),
            // Debian.
            ("6.12.107+deb13-cloud-amd64", [YES, YES, NO, NO]),
            ("6.12.117+deb12-amd64", [YES, NO, NO, NO]),
            ("6.12.9+bpo-arm64", [YES, YES, NO, NO]),
            ("7.3.4+deb13-arm64-16k", [YES, NO, YES, YES]),
            ("6.16.3-amd64", [YES, YES, YES, NO]),
            ("6.1.0-56-cloud-amd64", [NO, NO, NO, NO]),
            ("6.1.0-56-rt-amd64", [NO, NO, NO, NO]),
            ("6.5.0-0.deb12.4-amd64", [NO, NO, NO, NO]),
            ("6.12.0-1-amd64", [YES, None, NO, NO]),
            ("6.13.0-1-amd64", [YES, YES, NO, NO]),
            ("6.18-rc5-amd64", [YES, YES, YES, NO]),
            // Ubuntu, also for clouds.
            ("5.15.0-161-generic", [None, None, None, None]),
            ("6.8.0-1041-aws", [None, None, None, None]),
            ("6.14.0-24-generic", [YES, None, None, None]),
            ("6.14.0-1017-azure", [YES, None, None, None]),
            ("6.17.0-8-generic", [YES, None, YES, None]),
            // Red Hat and those who rebuild it; Oracle.
            ("4.18.0-553.el8_10.x86_64", [None, None, None, None]),
            ("5.14.0-611.el9_7.x86_64", [None, None, None, None]),
            ("6.12.0-55.12.1.el10_0.x86_64", [YES, None, None, None]),
            ("6.12.0-124.8.1.el10_1.aarch64+64k", [YES, None, None, None]),
            ("6.12.0-103.40.4.2.el9uek.x86_64", [YES, None, None, None]),
            // Fedora.
            ("6.17.4-200.fc42.x86_64", [YES, YES, YES, NO]),
            ("6.18.54-200.fc43", [YES, NO, YES, NO]),
            ("6.18.0-0.rc3.30.fc44.x86_64", [YES, YES, YES, NO]),
            ("6.19.0-0.rc0.1.fc44.x86_64", [YES, YES, YES, None]),
            // SUSE: Leap has a third number and backports all the same.
            ("5.14.21-150500.55.7-default", [None, None, None, None]),
            ("6.4.0-150600.23.25-default", [None, None, None, None]),
            ("6.12.0-160000.5-default", [YES, None, None, None]),
            ("6.17.4-1-default", [YES, None, YES, None]),
            // Proxmox.
            ("6.8.12-9-pve", [None, None, None, None]),
            ("6.17.4-1-pve", [YES, None, YES, None]),
            ("6.14.8-2-bpo12-pve", [YES, None, None, None]),
            // Amazon Linux, Container-Optimized OS, Azure Linux, WSL.
            ("6.1.102-111.182.amzn2023.x86_64", [None, None, None, None]),
            ("6.12.120-61.105.amzn2023.x86_64", [YES, None, None, None]),
            ("6.1.112+", [None, None, None, None]),
            ("6.12.55+", [YES, None, None, None]),
            ("6.6.57.1-7.azl3", [None, None, None, None]),
            ("6.6.87.2-microsoft-standard-WSL2", [None, None, None, None]),
            // Arch.
            ("6.17.4-arch2-1", [YES, YES, YES, NO]),
            ("6.12.50-1-lts", [YES, None, None, None]),
            // Private builds, with any changes.
            ("6.11.9-mine", [None, None, None, None]),
            ("6.12.107-g1234567-dirty", [YES, None, None, None]),
            ("6.12.0-00012-g1234567", [YES, None, None, None]),
            ("6.12.0-rc1+", [None, None, None, None]),
            ("6.18.0-rc7-next-20261118", [YES, None, YES, None]),
            ("7.3.4-mine", [YES, NO, YES, YES]),
            ("mystery", [None, None, None, None]),
            ("", [None, None, None, None]),
            ("6", [None, None, None, None]),
        ] {
            let own = Features::of(release);
            let found = [
                own.huge_device_leaves(),
                own.asks_thp_policy(),
                own.dma_maps_by_leaf(),
                own.bars_as_dma_bufs(),
            ];
            assert_eq!(found, expected, "{release}");
        }
    }

    /// The version alone gives the same answer for upstream releases.
    #[test]
    fn versions_agree() {
        for release in [
            "6.1.192", "6.12.114", "6.12.115", "6.17.0", "7.2.8", "7.3.4",
        ] {
            let version = KernelVersion::parse(release).unwrap();
            let asks = Features::of(release).asks_thp_policy();
            assert_eq!(asks, Some(version.asks_thp_policy()), "{release}");
        }
    }
}
