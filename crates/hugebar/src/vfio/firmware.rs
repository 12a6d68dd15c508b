//! Refusals that firmware causes.

use rustix::io::Errno;

use crate::error::{Error, ErrorKind};
use crate::pci::DirectRegion;

use super::remedy::RESERVED_BY_FIRMWARE;

/// Explains a refusal if the kernel refuses the group because firmware demands a mapping for it; `None` if it has
/// another cause. `errno` is the kernel's error: EPERM on 6.1, EINVAL on 6.12 and later.
pub(super) fn demanded(name: &'static str, errno: Errno, group: Option<u32>) -> Option<Error> {
    if !matches!(errno, Errno::PERM | Errno::INVAL) {
        return None;
    }
    let group = group?;
    let remedy = remedy(group, &DirectRegion::of_group(group).ok()?)?;
    let error = Error::call(name, errno).of_kind(ErrorKind::FirmwareReserved);
    Some(error.with_remedy(remedy))
}

/// What to do about ranges that firmware demands to be mapped one to one; `None` if there are none.
fn remedy(group: u32, direct: &[DirectRegion]) -> Option<String> {
    if direct.is_empty() {
        return None;
    }
    let ranges: Vec<_> = direct.iter().map(DirectRegion::to_string).collect();
    Some(format!(
        "firmware demands access to {} for IOMMU group {group} (RMRR), so the kernel gives the group to no program: {RESERVED_BY_FIRMWARE}",
        ranges.join(", ")
    ))
}
