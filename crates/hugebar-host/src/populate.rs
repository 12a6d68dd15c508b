//! Picks this host's way to populate a device's BARs.

use std::env::consts::ARCH;

use hugebar::ErrorKind;
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
            Err(Reason::new(
                Code::NoPopulate,
                fact,
                remedy(device.backend(), error.kind(), ARCH),
            ))
        }
    }
}

/// What would count the leaves, by how the device was opened and why KVM cannot.
fn remedy(backend: Option<Backend>, kvm: ErrorKind, architecture: &str) -> String {
    let type1 = "open the device by its group and type1 (--backend type1)";
    // Elsewhere but on s390 no KVM can.
    if architecture != "x86_64" {
        return match backend {
            Some(Backend::NoIommu) => "to count the leaves, turn the IOMMU on".to_owned(),
            _ => format!("to count the leaves, {type1}"),
        };
    }
    let able = "a KVM that can pre-fault (KVM_CAP_PRE_FAULT_MEMORY: on x86-64 from Linux 6.11)";
    let other = match kvm {
        // It is there, and is not able.
        ErrorKind::Unsupported => format!("use {able}"),
        _ => format!("give this process access to /dev/kvm of {able}"),
    };
    match backend {
        // Without an IOMMU there is no other way.
        Some(Backend::NoIommu) => format!("to count the leaves, {other}"),
        _ => format!("to count the leaves, {type1}, or {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_names_what_would_count() {
        let remedy = |backend, kvm| super::remedy(Some(backend), kvm, "x86_64");
        let text = remedy(Backend::Iommufd, ErrorKind::NotFound);
        for part in ["--backend type1", "/dev/kvm", "KVM_CAP_PRE_FAULT_MEMORY"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // Access to one that is there and cannot do it does not help.
        let unable = remedy(Backend::Iommufd, ErrorKind::Unsupported);
        assert!(
            !unable.contains("/dev/kvm") && unable.contains("type1"),
            "{unable}"
        );
        let none = remedy(Backend::NoIommu, ErrorKind::NotFound);
        assert!(!none.contains("type1"), "{none}");
        // Nor does KVM where none can.
        for (backend, way) in [
            (Backend::Iommufd, "--backend type1"),
            (Backend::NoIommu, "IOMMU"),
        ] {
            let text = super::remedy(Some(backend), ErrorKind::NotFound, "aarch64");
            assert!(text.contains(way) && !text.contains("KVM"), "{text}");
        }
    }
}
