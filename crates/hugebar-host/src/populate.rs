//! Picks this host's way to populate a device's BARs.

use hugebar::iommu::IommuKind;
use hugebar::populate::Prefault;
use hugebar::populate::{Populate, Type1};
use hugebar::reason::{Code, Reason};
use hugebar::vfio::{Backend, Device};

/// Picks the first available way: the device's container, if it has an IOMMU that maps BARs;
/// otherwise KVM. If there is none, returns the reason.
pub fn for_device(device: &Device) -> Result<Box<dyn Populate>, Reason> {
    let container = device.container();
    let type1 = container.filter(|container| container.kind() == IommuKind::Type1);
    let refused = match type1.map(Type1::new) {
        Some(Ok(populate)) => return Ok(Box::new(populate)),
        Some(Err(error)) => error.fact(),
        None => match container {
            Some(_) => "this container maps no device memory".to_owned(),
            None => "iommufd maps no device memory".to_owned(),
        },
    };
    match Prefault::new() {
        Ok(populate) => Ok(Box::new(populate)),
        Err(error) => {
            let fact = format!("{refused}, and KVM cannot stand in: {}", error.fact());
            let kvm = "give this process access to /dev/kvm (Linux 6.11 or later, x86-64)";
            let remedy = match device.backend() {
                // Without an IOMMU there is no other way.
                Some(Backend::NoIommu) => format!("to count the leaves, {kvm}"),
                _ => format!(
                    "to count the leaves, open the device by its group and type1 (--backend type1), or {kvm}"
                ),
            };
            Err(Reason::new(Code::NoPopulate, fact, remedy))
        }
    }
}
