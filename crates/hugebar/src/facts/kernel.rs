//! Kernel versions.

use std::fmt;

/// The version number of a kernel release: `7.3.4` of `7.3.4+deb13-cloud-amd64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number; 0 if the release has none.
    pub patch: u32,
}

impl KernelVersion {
    /// Makes a version.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// Whether a kernel of this version, as released upstream, asks the THP policy before it installs large
    /// leaves of device memory. For releases of distributions use [`crate::facts::Features`].
    ///
    /// All kernels with such leaves (6.12 on) did until "mm/huge_memory: bypass THP tuneables for huge
    /// pfnmap mappings", which came with 7.3 and was backported to 6.12.115, 6.18.54 and 7.2.8.
    ///
    /// ```
    /// use hugebar::facts::KernelVersion;
    /// assert!(KernelVersion::new(6, 12, 113).asks_thp_policy());
    /// assert!(!KernelVersion::new(6, 12, 115).asks_thp_policy());
    /// assert!(!KernelVersion::new(6, 1, 192).asks_thp_policy(), "it has no such leaves");
    /// ```
    pub const fn asks_thp_policy(self) -> bool {
        match (self.major, self.minor) {
            (6, 12) => self.patch < 115,
            (6, 18) => self.patch < 54,
            (6, minor) => minor > 12,
            (7, 2) => self.patch < 8,
            (7, minor) => minor < 2,
            _ => false,
        }
    }

    /// Parses the version number at the start of a release (`uname -r`).
    ///
    /// ```
    /// use hugebar::facts::KernelVersion;
    /// let version = KernelVersion::parse("6.12.107+deb13-cloud-amd64");
    /// assert_eq!(version, Some(KernelVersion::new(6, 12, 107)));
    /// assert_eq!(KernelVersion::parse("7.3-rc1"), Some(KernelVersion::new(7, 3, 0)));
    /// ```
    pub fn parse(release: &str) -> Option<Self> {
        let end = release.find(|c: char| !c.is_ascii_digit() && c != '.');
        let mut numbers = release[..end.unwrap_or(release.len())].split('.');
        let mut next = || numbers.next()?.parse().ok();
        let (major, minor) = (next()?, next()?);
        Some(Self::new(major, minor, next().unwrap_or(0)))
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions on both sides of each change; docs/doctor.md says on which of them leaves were counted.
    #[test]
    fn kernels_that_ask_the_policy() {
        let asks = |release| KernelVersion::parse(release).unwrap().asks_thp_policy();
        for release in [
            "6.12.107", "6.12.113", "6.12.114", "6.17.13", "6.18.15", "6.18.53", "7.1.13", "7.2.6",
        ] {
            assert!(asks(release), "{release}");
        }
        for release in [
            "5.14.0", "6.1.192", "6.11.9", "6.12.115", "6.12.117", "6.18.54", "7.2.8", "7.2.9",
            "7.3.4", "7.10.0", "8.0.0",
        ] {
            assert!(!asks(release), "{release}");
        }
    }
}
