//! Refusals that firmware is behind.

use rustix::io::Errno;

use crate::error::{Error, ErrorKind};
use crate::pci::DirectRegion;

use super::remedy::RESERVED_BY_FIRMWARE;

/// Tells of a refusal that the kernel has refused a group because firmware demands a mapping for it; `None` where it
/// was not for that. `errno` is what the kernel said: EPERM on 6.1, EINVAL on 6.12 and later.
pub(super) fn demanded(name: &'static str, errno: Errno, group: Option<u32>) -> Option<Error> {
    if !matches!(errno, Errno::PERM | Errno::INVAL) {
        return None;
    }
    let group = group?;
    let remedy = remedy(group, &DirectRegion::of_group(group).ok()?)?;
    let error = Error::call(name, errno).of_kind(ErrorKind::FirmwareReserved);
    Some(error.with_remedy(remedy))
}

/// What to do about ranges that firmware demands to be mapped one to one; `None` where there are none.
fn remedy(group: u32, direct: &[DirectRegion]) -> Option<String> {
    if direct.is_empty() {
        return None;
    }
    let ranges: Vec<_> = direct.iter().map(DirectRegion::to_string).collect();
    Some(format!(
        "firmware demands that IOMMU group {group} reaches {} (RMRR), so the kernel does not give it away: {RESERVED_BY_FIRMWARE}",
        ranges.join(", ")
    ))
}
