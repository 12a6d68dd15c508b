//! Kernels, and the words that name them.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::arch::Arch;

/// A kernel that the machine can boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its `uname -r`, as far as known before it runs.
    pub release: String,
    /// The image.
    pub vmlinuz: PathBuf,
    /// The uncompressed kernel in it, if QEMU can start that.
    pub vmlinux: Option<PathBuf>,
    /// The folder `…/lib/modules/RELEASE`; `None` if everything is built in.
    pub modules: Option<PathBuf>,
}

/// A user's name for a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spec {
    /// The newest available kernel of a flavour whose version begins with these numbers; of all versions, if there
    /// are none.
    Version(Vec<u32>, &'static str),
    /// Exactly this release.
    Release(String),
    /// The one built for the lab.
    Lab,
    /// The one that this host runs.
    Host,
    /// An image.
    Image(PathBuf),
}

impl Spec {
    /// Parses a word such as `6.12`, `newest` or `./bzImage`.
    pub(super) fn parse(word: &str, arch: Arch) -> Result<Self> {
        if word.contains('/') {
            return Ok(Self::Image(word.into()));
        }
        if word == arch.traits().lab_kernel {
            return Ok(Self::Lab);
        }
        let (word, flavour) = arch.flavour(word);
        if arch != Arch::X86_64 && matches!(word, "lab" | "host") {
            bail!(
                "the lab has no kernel {word} for {arch}: say newest, newest-16k, {}, or a version",
                arch.traits().lab_kernel
            );
        }
        let numbers = || word.split('.').map(|number| number.parse().ok()).collect();
        Ok(match word {
            "newest" => Self::Version(Vec::new(), flavour),
            "host" => Self::Host,
            _ => match numbers() {
                Some(numbers) => Self::Version(numbers, flavour),
                None if word.starts_with(|first: char| first.is_ascii_digit()) => {
                    Self::Release(word.into())
                }
                None => bail!(
                    "{word:?} is no kernel for {arch}: say a version such as 6.18 or 6.18.15, {}, or the path of an image (with a / in it)",
                    match arch {
                        Arch::X86_64 => "newest, lab, host",
                        Arch::Arm64 => "newest, newest-16k, lab-64k",
                    }
                ),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_kernels() {
        let parse = |word| Spec::parse(word, Arch::X86_64);
        let version = |numbers: &[u32]| Spec::Version(numbers.to_vec(), "-cloud-amd64");
        assert_eq!(parse("newest").unwrap(), version(&[]));
        assert_eq!(parse("6.1").unwrap(), version(&[6, 1]));
        assert_eq!(parse("6.12.107").unwrap(), version(&[6, 12, 107]));
        let release = "6.12.107+deb12-cloud-amd64";
        assert_eq!(parse(release).unwrap(), Spec::Release(release.into()));
        assert_eq!(parse("./bzImage").unwrap(), Spec::Image("./bzImage".into()));
        assert_eq!(parse("host").unwrap(), Spec::Host);
        assert_eq!(parse("lab").unwrap(), Spec::Lab);
        for wrong in ["", "latest", "v6.1", "newest-16k", "lab-64k"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn kernels_for_arm64_have_a_page_size() {
        let parse = |word| Spec::parse(word, Arch::Arm64);
        let version = |numbers: &[u32], flavour| Spec::Version(numbers.to_vec(), flavour);
        assert_eq!(parse("newest").unwrap(), version(&[], "-cloud-arm64"));
        assert_eq!(parse("7.3-16k").unwrap(), version(&[7, 3], "-arm64-16k"));
        assert_eq!(parse("lab-64k").unwrap(), Spec::Lab);
        for wrong in ["lab", "host", "newest-64k"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
