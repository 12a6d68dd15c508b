//! Class codes.

use std::fmt;

/// The class code of a function: class, subclass and programming interface (`linux/pci_ids.h`).
///
/// Displayed as in sysfs.
///
/// ```
/// use hugebar::pci::ClassCode;
/// let nvme = ClassCode::new(0x01, 0x08, 0x02);
/// assert_eq!(nvme.to_string(), "0x010802");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClassCode {
    /// The class, such as 0x01 for mass storage, 0x02 for networks, 0x03 for displays.
    pub class: u8,
    /// The subclass: of mass storage, 0x08 is non-volatile memory.
    pub subclass: u8,
    /// The programming interface: of non-volatile memory, 0x02 is NVMe.
    pub interface: u8,
}

impl ClassCode {
    /// A class code from its three parts.
    pub const fn new(class: u8, subclass: u8, interface: u8) -> Self {
        Self {
            class,
            subclass,
            interface,
        }
    }

    /// Whether it is a bridge to another bus (subclass 0x04, or 0x07 for CardBus), which has another header layout.
    pub fn is_bridge(self) -> bool {
        self.class == 0x06 && matches!(self.subclass, 0x04 | 0x07)
    }

    /// Parses the form of sysfs: `0x010802`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0x")?;
        let code = u32::from_str_radix(digits, 16).ok()?;
        match code.to_be_bytes() {
            [0, class, subclass, interface] if digits.len() == 6 => {
                Some(Self::new(class, subclass, interface))
            }
            _ => None,
        }
    }
}

impl fmt::Display for ClassCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            class,
            subclass,
            interface,
        } = self;
        write!(f, "0x{class:02x}{subclass:02x}{interface:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysfs_has_six_digits() {
        let bridge = ClassCode::parse("0x060400").unwrap();
        assert_eq!(bridge, ClassCode::new(6, 4, 0));
        assert!(bridge.is_bridge() && !ClassCode::new(6, 0, 0).is_bridge());
        assert_eq!(
            ClassCode::parse("0x0108ff").unwrap().to_string(),
            "0x0108ff"
        );
        for wrong in ["", "0x", "060400", "0x0604", "0x00060400", "0x06040g"] {
            assert_eq!(ClassCode::parse(wrong), None, "{wrong}");
        }
    }
}
