//! Kernel sources: finds source packages and picks the newest.

use serde::{Deserialize, Serialize};

use super::packages::{field, numbers, paragraphs};

/// A source package that can be fetched, or was used for a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// Its name, such as `linux-source-7.3`.
    pub(crate) package: String,
    /// Debian's version: patches change within one upstream version.
    pub(crate) version: String,
    /// Its size in bytes.
    pub(crate) size: u64,
}

impl Source {
    /// The version of Linux.
    pub(super) fn upstream(&self) -> &str {
        self.version.split('-').next().unwrap_or(&self.version)
    }

    /// Newer is greater.
    pub(super) fn age(&self) -> (Vec<u32>, Vec<u32>) {
        (numbers(self.upstream()), numbers(&self.version))
    }
}

/// Whether a package of this name has the source of one version, and is not a metapackage.
pub(super) fn is_of_interest(name: &str) -> bool {
    name.strip_prefix("linux-source-").is_some_and(|version| {
        let digits = |c: char| c.is_ascii_digit() || c == '.';
        version.starts_with(|first: char| first.is_ascii_digit()) && version.chars().all(digits)
    })
}

/// Finds the sources in the output of `apt-cache show`.
pub(super) fn sources(shown: &str) -> Vec<Source> {
    paragraphs(shown)
        .filter(|fields| is_of_interest(field(fields, "Package")))
        .map(|fields| Source {
            package: field(&fields, "Package").to_owned(),
            version: field(&fields, "Version").to_owned(),
            size: field(&fields, "Size").parse().unwrap_or_default(),
        })
        .collect()
}

/// The newest one.
pub(super) fn newest(sources: &[Source]) -> Option<&Source> {
    sources.iter().max_by_key(|source| source.age())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "\
Package: linux-source-6.12
Version: 6.12.117-1~deb12u1
Size: 15

Package: linux-source-7.10
Version: 7.10.2-1~bpo13+1
Size: 17

Package: linux-source-7.3
Version: 7.3.4-1~bpo13+1
Size: 16

Package: linux-source
Version: 9.9-1

Package: linux-image-9.9.9-cloud-amd64
Version: 9.9.9-1
";

    #[test]
    fn the_newest_source_is_found_number_by_number() {
        let sources = sources(SHOWN);
        assert_eq!(sources.len(), 3, "{sources:?}");
        let newest = newest(&sources).unwrap();
        assert_eq!(newest.package, "linux-source-7.10");
        assert_eq!((newest.upstream(), newest.size), ("7.10.2", 17));
    }

    #[test]
    fn a_newer_build_of_one_version_is_newer() {
        let of = |version: &str| Source {
            package: "linux-source-7.3".into(),
            version: version.into(),
            size: 0,
        };
        assert!(of("7.3.4-2~bpo13+1").age() > of("7.3.4-1~bpo13+1").age());
        assert!(of("7.3.10-1").age() > of("7.3.4-2").age());
    }

    #[test]
    fn packages_of_interest_name_one_version() {
        assert!(is_of_interest("linux-source-7.3"));
        for name in ["linux-source", "linux-source-", "linux-source-7.3-rt"] {
            assert!(!is_of_interest(name), "{name}");
        }
    }
}
