//! Reserved I/O addresses of an IOMMU group.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::error::Result;

use super::sysfs::{Function, failure};

/// A range of I/O addresses that firmware requires to be always mapped one to one for an IOMMU group, such as an RMRR of
/// a DMAR table. The kernel gives no device of such a group to VFIO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectRegion {
    /// The first address.
    pub first: u64,
    /// The last address.
    pub last: u64,
}

impl DirectRegion {
    /// Reads the ranges of an IOMMU group (`reserved_regions`).
    ///
    /// Excludes ranges that the kernel gives up when a program takes the device (`direct-relaxable`, for USB controllers
    /// and graphics).
    ///
    /// # Errors
    ///
    /// If the group's file cannot be read: then it is unknown whether there are any.
    pub fn of_group(group: u32) -> Result<Vec<Self>> {
        let groups = Path::new("/sys/kernel/iommu_groups");
        Self::of_file(&groups.join(group.to_string()).join("reserved_regions"))
    }

    /// Reads those of a function's group, by the link in its folder; none if it is in no group.
    ///
    /// # Errors
    ///
    /// If the group's file cannot be read.
    pub fn of_function(function: &Function) -> Result<Vec<Self>> {
        match function.iommu_group()? {
            Some(_) => Self::of_file(&function.folder().join("iommu_group/reserved_regions")),
            None => Ok(Vec::new()),
        }
    }

    fn of_file(path: &Path) -> Result<Vec<Self>> {
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| failure("read", &error).on(path.display()))?;
        Ok(parse(&text))
    }
}

/// `0xfffc0000-0xfffc0fff`.
impl fmt::Display for DirectRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.first, self.last)
    }
}

/// The lines of `reserved_regions` whose type is `direct`: first address, last address, type.
fn parse(text: &str) -> Vec<DirectRegion> {
    let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let direct = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (first, last) = (number(words.next()?)?, number(words.next()?)?);
        (words.next()? == "direct").then_some(DirectRegion { first, last })
    };
    text.lines().filter_map(direct).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_given_up() {
        let text = "\
0x000000003ffdf000 0x000000003ffdffff direct
0x00000000a0000000 0x00000000a0ffffff direct-relaxable
0x00000000fee00000 0x00000000feefffff msi
0x000000fd00000000 0x000000ffffffffff reserved
nonsense
0x1 direct
";
        let found = parse(text);
        let words: Vec<_> = found.iter().map(DirectRegion::to_string).collect();
        assert_eq!(words, ["0x3ffdf000-0x3ffdffff"]);
        assert!(parse("").is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_one_that_lists_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("reserved_regions");
        let error = DirectRegion::of_file(&file).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::NotFound);
        fs::write(&file, "0x00000000fee00000 0x00000000feefffff msi\n").unwrap();
        assert_eq!(DirectRegion::of_file(&file).unwrap(), []);
    }
}
