//! Memory that firmware demands for a device's IOMMU group.

use hugebar::pci::DirectRegion;
use hugebar::vfio::remedy::RESERVED_BY_FIRMWARE;

use super::step::Step;

const STEP: &str = "reserved-regions";

/// A step if firmware demands mappings for which the kernel refuses the group to programs, or if that is unknown.
pub(super) fn step(group: u32) -> Option<Step> {
    match DirectRegion::of_group(group) {
        Ok(direct) => blocked(group, &direct),
        Err(error) => Some(Step::ok(STEP, format!("unknown: {error}"))),
    }
}

fn blocked(group: u32, direct: &[DirectRegion]) -> Option<Step> {
    if direct.is_empty() {
        return None;
    }
    let ranges: Vec<_> = direct.iter().map(DirectRegion::to_string).collect();
    let fact = format!(
        "firmware demands access to {} for group {group} (RMRR), so the kernel gives the group to no program",
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
            "firmware demands access to 0x3ffdf000-0x3ffdffff for group 7 (RMRR), so the kernel gives the group to \
             no program"
        );
    }
}
