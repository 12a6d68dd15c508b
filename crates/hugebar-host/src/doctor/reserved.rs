//! Memory that firmware demands for a device's IOMMU group.

use std::fs;
use std::path::Path;

use hugebar::pci::DirectRegion;
use hugebar::vfio::remedy::RESERVED_BY_FIRMWARE;

use super::step::Step;

const STEP: &str = "reserved-regions";

/// A step where firmware demands mappings that keep the kernel from giving the group away, or where it is not known.
pub(super) fn step(group: u32) -> Option<Step> {
    let file = format!("/sys/kernel/iommu_groups/{group}/reserved_regions");
    unknown(Path::new(&file)).or_else(|| blocked(group, &DirectRegion::of_group(group)))
}

/// A file that cannot be read is not one that lists nothing.
fn unknown(file: &Path) -> Option<Step> {
    let error = fs::read(file).err()?;
    let fact = format!("not known: {}: {error}", file.display());
    Some(Step::ok(STEP, fact))
}

fn blocked(group: u32, direct: &[DirectRegion]) -> Option<Step> {
    if direct.is_empty() {
        return None;
    }
    let ranges: Vec<_> = direct.iter().map(DirectRegion::to_string).collect();
    let fact = format!(
        "firmware demands that group {group} reaches {} (RMRR), so the kernel gives it to no program",
        ranges.join(", ")
    );
    Some(Step::blocker(STEP, fact, RESERVED_BY_FIRMWARE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_firmware_demands_blocks() {
        assert_eq!(blocked(7, &[]), None);
        let (first, last) = (0x3ffd_f000, 0x3ffd_ffff);
        let step = blocked(7, &[DirectRegion { first, last }]).unwrap();
        assert_eq!(
            step.fact,
            "firmware demands that group 7 reaches 0x3ffdf000-0x3ffdffff (RMRR), so the kernel gives it to no \
             program"
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("reserved_regions");
        let step = unknown(&file).unwrap();
        assert!(step.fact.starts_with("not known: "), "{step:?}");
        fs::write(&file, "0x00000000fee00000 0x00000000feefffff msi\n").unwrap();
        assert_eq!(unknown(&file), None);
    }
}
