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
    /// How many bits its input addresses have; `None` where sysfs does not say: only Intel's and AMD's do.
    pub bits: Option<u32>,
}

impl Iommu {
    /// Finds it by the link in the function's folder; `None` if it has none.
    pub(super) fn of(function: &Function) -> Option<Self> {
        let link = sysfs::of(function, "iommu");
        let name = fs::read_link(&link).ok()?;
        let name = name.file_name()?.to_string_lossy().into_owned();
        let read = |file: &str| fs::read_to_string(link.join(file)).ok();
        let of_intel = read("intel-iommu/cap").and_then(|text| bits_of_intel(&text));
        let bits =
            of_intel.or_else(|| read("amd-iommu/features").and_then(|text| bits_of_amd(&text)));
        Some(Self { name, bits })
    }
}

/// The field MGAW (bits 16 to 21) of the capability register of Intel's VT-d, which is one less.
fn bits_of_intel(capability: &str) -> Option<u32> {
    let register = u64::from_str_radix(capability.trim(), 16).ok()?;
    u32::try_from(register >> 16 & 0x3f).ok()?.checked_add(1)
}

/// The field HATS (bits 10 and 11) of the extended feature register of AMD-Vi: how many levels its page tables can have more
/// than four, each of which translates nine bits. Newer kernels print a second register behind it.
fn bits_of_amd(features: &str) -> Option<u32> {
    let register = features.split(':').next()?;
    match u64::from_str_radix(register.trim(), 16).ok()? {
        // It has no such register.
        0 => None,
        register => match register >> 10 & 3 {
            0 => Some(48),
            1 => Some(57),
            2 => Some(64),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_is_a_field_of_the_capability_register() {
        // Of a laptop, of a server, and of QEMU's with aw-bits=39.
        assert_eq!(bits_of_intel("1c0000c40660462\n"), Some(39));
        assert_eq!(bits_of_intel("8d2078c106f0466\n"), Some(48));
        assert_eq!(bits_of_intel("d2008c22260286\n"), Some(39));
        assert_eq!(bits_of_intel(""), None);
        assert_eq!(bits_of_intel("0xff"), None);
    }

    #[test]
    fn the_width_is_a_field_of_the_extended_feature_register() {
        // With and without the second register.
        assert_eq!(bits_of_amd("9d3:0\n"), Some(64));
        assert_eq!(bits_of_amd("29d3\n"), Some(64));
        assert_eq!(bits_of_amd("1d3:0\n"), Some(48));
        assert_eq!(bits_of_amd("5d3:0\n"), Some(57));
        // Reserved, without such a register, unreadable.
        for unknown in ["dd3:0\n", "0:0\n", "", "x"] {
            assert_eq!(bits_of_amd(unknown), None, "{unknown}");
        }
    }
}
