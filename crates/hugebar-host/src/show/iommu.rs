//! The IOMMU of a function, and how wide the addresses are that it translates.

use std::fs;

use hugebar::pci::Function;

use crate::sysfs;

/// An IOMMU.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Iommu {
    /// Its name in `/sys/class/iommu`.
    pub name: String,
    /// How many bits its input addresses have; `None` where sysfs does not say: only Intel's does.
    pub bits: Option<u32>,
}

impl Iommu {
    /// Finds it by the link in the function's folder; `None` if it has none.
    pub(super) fn of(function: &Function) -> Option<Self> {
        let link = sysfs::of(function, "iommu");
        let name = fs::read_link(&link).ok()?;
        let name = name.file_name()?.to_string_lossy().into_owned();
        let capability = fs::read_to_string(link.join("intel-iommu/cap")).ok();
        let bits = capability.and_then(|text| bits(&text));
        Some(Self { name, bits })
    }
}

/// The field MGAW (bits 16 to 21) of the capability register of Intel's VT-d, which is one less.
fn bits(capability: &str) -> Option<u32> {
    let register = u64::from_str_radix(capability.trim(), 16).ok()?;
    u32::try_from(register >> 16 & 0x3f).ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_is_a_field_of_the_capability_register() {
        // Of a laptop, of a server, and of QEMU's with aw-bits=39.
        assert_eq!(bits("1c0000c40660462\n"), Some(39));
        assert_eq!(bits("8d2078c106f0466\n"), Some(48));
        assert_eq!(bits("d2008c22260286\n"), Some(39));
        assert_eq!(bits(""), None);
        assert_eq!(bits("0xff"), None);
    }
}
