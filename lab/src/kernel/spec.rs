//! Kernels, and the words that name them.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// A kernel that the machine can boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its `uname -r`, as far as known before it runs.
    pub release: String,
    /// The image.
    pub vmlinuz: PathBuf,
    /// The folder `…/lib/modules/RELEASE`; `None` if everything is built in.
    pub modules: Option<PathBuf>,
}

/// A user's name for a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spec {
    /// The newest available kernel whose version begins with these numbers; of all versions, if there are none.
    Version(Vec<u32>),
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
    pub(super) fn parse(word: &str) -> Result<Self> {
        let numbers = || word.split('.').map(|number| number.parse().ok()).collect();
        Ok(match word {
            "newest" => Self::Version(Vec::new()),
            "lab" => Self::Lab,
            "host" => Self::Host,
            _ if word.contains('/') => Self::Image(word.into()),
            _ => match numbers() {
                Some(numbers) => Self::Version(numbers),
                None if word.starts_with(|first: char| first.is_ascii_digit()) => {
                    Self::Release(word.into())
                }
                None => bail!(
                    "{word:?} is no kernel: say a version such as 6.12 or 6.12.107, newest, lab, host, or the path of an image (with a / in it)"
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
        assert_eq!(Spec::parse("newest").unwrap(), Spec::Version(vec![]));
        assert_eq!(Spec::parse("6.1").unwrap(), Spec::Version(vec![6, 1]));
        assert_eq!(
            Spec::parse("6.12.107").unwrap(),
            Spec::Version(vec![6, 12, 107])
        );
        let release = "6.12.107+deb12-cloud-amd64";
        assert_eq!(Spec::parse(release).unwrap(), Spec::Release(release.into()));
        assert_eq!(
            Spec::parse("./bzImage").unwrap(),
            Spec::Image("./bzImage".into())
        );
        assert_eq!(Spec::parse("host").unwrap(), Spec::Host);
        for wrong in ["", "latest", "v6.1"] {
            assert!(Spec::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
