//! Finds packages with a usable kernel in package lists, and picks one by version.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::spec::Spec;

/// The flavours of kernels for the lab's machines.
const FLAVOURS: [&str; 3] = ["-cloud-amd64", "-cloud-arm64", "-arm64-16k"];

/// A kernel that can be, or was, fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Candidate {
    /// Its `uname -r`.
    pub(crate) release: String,
    /// The upstream version, such as `6.1.192`, which the release may not contain (`6.1.0-56-cloud-amd64`).
    pub(crate) version: String,
    /// The packages of its image and modules.
    pub(crate) packages: Vec<String>,
    /// Their total size in bytes.
    pub(crate) size: u64,
}

impl Candidate {
    /// Newer is greater. The numbers of the release distinguish builds of one version.
    pub(super) fn age(&self) -> (Vec<u32>, Vec<u32>) {
        (numbers(&self.version), numbers(&self.release))
    }
}

pub(super) fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// The newest matching candidate.
pub(super) fn choose<'a>(candidates: &'a [Candidate], spec: &Spec) -> Option<&'a Candidate> {
    candidates
        .iter()
        .filter(|candidate| match spec {
            // Compare number by number: 6.1 does not match 6.12.
            Spec::Version(wanted, flavour) => {
                candidate.release.ends_with(flavour)
                    && numbers(&candidate.version).starts_with(wanted)
            }
            Spec::Release(release) => candidate.release == *release,
            Spec::Lab | Spec::Host | Spec::Image(_) => false,
        })
        .max_by_key(|candidate| candidate.age())
}

/// Whether a package of this name can contain a part of a kernel.
pub(super) fn is_of_interest(name: &str) -> bool {
    ["linux-image-", "linux-binary-", "linux-modules-"]
        .iter()
        .filter_map(|prefix| name.strip_prefix(prefix))
        .flat_map(|release| FLAVOURS.iter().map(|flavour| release.strip_suffix(flavour)))
        .flatten()
        .any(is_version)
}

/// Whether this is a version without a part of another flavour's name: `7.3.4+deb13`, `6.1.0-56`.
fn is_version(text: &str) -> bool {
    let digit = |first: char| first.is_ascii_digit();
    text.split('-').all(|part| part.starts_with(digit))
}

/// Finds the kernels in the output of `apt-cache show`.
pub(super) fn candidates(shown: &str) -> Vec<Candidate> {
    let packages: Vec<_> = paragraphs(shown).collect();
    let present: HashSet<_> = packages
        .iter()
        .map(|fields| field(fields, "Package"))
        .collect();
    let size = |names: &[String]| {
        packages
            .iter()
            .filter(|fields| names.iter().any(|name| name == field(fields, "Package")))
            .filter_map(|fields| field(fields, "Size").parse::<u64>().ok())
            .sum()
    };
    packages
        .iter()
        .filter_map(|fields| {
            let name = field(fields, "Package");
            let release = name.strip_prefix("linux-image-")?;
            let depends = field(fields, "Depends");
            let depends_on = |package: &str| {
                depends
                    .split([',', '|'])
                    .any(|one| one.split_whitespace().next() == Some(package))
            };
            // A metapackage for the newest image depends on another image.
            if depends.contains("linux-image-") {
                return None;
            }
            let binary = format!("linux-binary-{release}");
            let modules = format!("linux-modules-{release}");
            let packages = if depends_on(&binary) {
                // For some old versions the archive no longer has the modules, and the image is useless.
                if !present.contains(binary.as_str()) || !present.contains(modules.as_str()) {
                    return None;
                }
                vec![binary, modules]
            } else {
                vec![name.to_owned()]
            };
            let version = field(fields, "Version");
            Some(Candidate {
                release: release.to_owned(),
                version: version.split('-').next().unwrap_or(version).to_owned(),
                size: size(&packages),
                packages,
            })
        })
        .collect()
}

/// A paragraph of a package list.
pub(super) type Fields<'a> = BTreeMap<&'a str, &'a str>;

/// The paragraphs in the output of `apt-cache show`, one for each package.
pub(super) fn paragraphs(shown: &str) -> impl Iterator<Item = Fields<'_>> {
    shown.split("\n\n").map(fields)
}

/// The fields of one paragraph of Debian's control format. Continuation lines belong to long texts, which are not needed.
fn fields(paragraph: &str) -> Fields<'_> {
    paragraph
        .lines()
        .filter(|line| !line.starts_with([' ', '\t', '#']))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim()))
        .collect()
}

pub(super) fn field<'a>(fields: &Fields<'a>, name: &str) -> &'a str {
    fields.get(name).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "\
Package: linux-image-6.1.0-56-cloud-amd64
Version: 6.1.192-2
Depends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool
Description: Linux 6.1 for x86-64 cloud (signed)
 Package: linux-image-9.9.9-cloud-amd64
Size: 26

Package: linux-image-6.1.0-9-cloud-amd64
Version: 6.1.27-1
Size: 25

Package: linux-image-6.12-cloud-amd64
Version: 6.12.117-1~deb12u1
Depends: linux-image-6.12.117+deb12-cloud-amd64 (= 6.12.117-1~deb12u1)

Package: linux-image-6.12.107+deb13-cloud-amd64
Version: 6.12.107-1

Package: linux-image-6.12.107+deb12-cloud-amd64
Version: 6.12.107-1~deb12u1

Package: linux-image-6.12.117+deb12-cloud-amd64
Version: 6.12.117-1~deb12u1
Depends: kmod

Package: linux-image-7.1.13+deb13-cloud-amd64
Version: 7.1.13-1~bpo13+1
Depends: kmod, linux-binary-7.1.13+deb13-cloud-amd64 (= 7.1.13-1~bpo13+1), linux-modules-7.1.13+deb13-cloud-amd64 (= 7.1.13-1~bpo13+1)

Package: linux-binary-7.1.13+deb13-cloud-amd64
Version: 7.1.13-1~bpo13+1

Package: linux-image-7.0.4+deb13-cloud-amd64
Version: 7.0.4-1~bpo13+1
Depends: linux-binary-7.0.4+deb13-cloud-amd64, linux-modules-7.0.4+deb13-cloud-amd64

Package: linux-binary-7.0.4+deb13-cloud-amd64
Version: 7.0.4-1~bpo13+1
Size: 13

Package: linux-modules-7.0.4+deb13-cloud-amd64
Version: 7.0.4-1~bpo13+1
Size: 22
";

    fn chosen(spec: &Spec) -> Option<String> {
        choose(&candidates(SHOWN), spec).map(|candidate| candidate.release.clone())
    }

    fn of(numbers: &[u32]) -> Option<String> {
        chosen(&Spec::Version(numbers.to_vec(), FLAVOURS[0]))
    }

    #[test]
    fn versions_are_compared_number_by_number() {
        assert_eq!(of(&[6, 1]).unwrap(), "6.1.0-56-cloud-amd64");
        assert_eq!(of(&[6, 1, 27]).unwrap(), "6.1.0-9-cloud-amd64");
        assert_eq!(of(&[6, 12]).unwrap(), "6.12.117+deb12-cloud-amd64");
        assert_eq!(of(&[6, 12, 107]).unwrap(), "6.12.107+deb13-cloud-amd64");
        assert_eq!(of(&[6, 12, 10]), None);
        assert_eq!(of(&[6, 18]), None);
    }

    #[test]
    fn a_kernel_without_its_modules_is_none() {
        assert_eq!(of(&[]).unwrap(), "7.0.4+deb13-cloud-amd64");
        assert_eq!(of(&[7, 1]), None);
    }

    #[test]
    fn flavours_are_kept_apart() {
        let kernel = |release: &str| Candidate {
            release: release.to_owned(),
            version: "7.3.4".to_owned(),
            packages: Vec::new(),
            size: 0,
        };
        let cached = FLAVOURS.map(|flavour| kernel(&format!("7.3.4+deb13{flavour}")));
        for flavour in FLAVOURS {
            let chosen = choose(&cached, &Spec::Version(vec![7], flavour)).unwrap();
            assert_eq!(chosen.release, format!("7.3.4+deb13{flavour}"));
        }
    }

    #[test]
    fn a_release_names_one_build() {
        let release = "6.12.107+deb12-cloud-amd64".to_owned();
        assert_eq!(chosen(&Spec::Release(release.clone())), Some(release));
        assert_eq!(chosen(&Spec::Release("6.12.107+deb12".into())), None);
    }

    #[test]
    fn the_packages_of_a_split_kernel_are_two() {
        let all = candidates(SHOWN);
        let split = all.iter().find(|one| one.version == "7.0.4").unwrap();
        assert_eq!(
            split.packages,
            [
                "linux-binary-7.0.4+deb13-cloud-amd64",
                "linux-modules-7.0.4+deb13-cloud-amd64"
            ]
        );
        assert_eq!(split.size, 35);
        assert!(!all.iter().any(|one| one.release.starts_with("9.9")));
        assert!(!all.iter().any(|one| one.release == "6.12-cloud-amd64"));
    }

    #[test]
    fn packages_of_interest_have_a_version_and_the_flavour() {
        for name in [
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-modules-7.3.4+deb13-cloud-amd64",
            "linux-modules-7.3.4+deb13-cloud-arm64",
            "linux-binary-7.3.4+deb13-arm64-16k",
        ] {
            assert!(is_of_interest(name), "{name}");
        }
        for name in [
            "linux-image-cloud-amd64",
            "linux-image-6.1.0-56-amd64",
            "linux-image-6.1.0-56-cloud-amd64-dbg",
            "linux-binary-unsigned-7.3.4+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-arm64",
            "linux-image-7.3.4+deb13-rt-arm64-16k",
        ] {
            assert!(!is_of_interest(name), "{name}");
        }
    }
}
