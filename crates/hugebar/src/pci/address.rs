//! Addresses of PCI functions.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// The address of a PCI function: `domain:bus:device.function`, all hexadecimal.
///
/// ```
/// use hugebar::pci::Address;
/// let address: Address = "1:0.1".parse()?;
/// assert_eq!(address.to_string(), "0000:01:00.1");
/// assert!("0000:01:20.0".parse::<Address>().is_err());
/// # Ok::<(), hugebar::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Domain (segment); above 0xffff for functions behind an Intel VMD.
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device, at most 0x1f.
    pub device: u8,
    /// Function, at most 7.
    pub function: u8,
}

impl FromStr for Address {
    type Err = Error;

    /// Parses `0000:01:00.0`, or `01:00.0` in domain 0.
    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "not a PCI address")
                .on(format!("{text:?}"))
                .with_remedy("write it as 0000:01:00.0 or 01:00.0")
        })
    }
}

fn parse(text: &str) -> Option<Address> {
    let (path, function) = text.split_once('.')?;
    let (rest, device) = path.rsplit_once(':')?;
    let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
    let number = |digits: &str, most: u32| {
        let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u32::from_str_radix(digits, 16).ok().filter(|_| valid)?;
        (number <= most).then_some(number)
    };
    Some(Address {
        domain: number(domain, u32::MAX)?,
        bus: number(bus, 0xff)?.try_into().ok()?,
        device: number(device, 0x1f)?.try_into().ok()?,
        function: number(function, 7)?.try_into().ok()?,
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_both_forms_and_shows_the_full_one() {
        for (text, full) in [
            ("0000:01:00.0", "0000:01:00.0"),
            ("01:00.0", "0000:01:00.0"),
            ("10000:e1:1f.7", "10000:e1:1f.7"),
            ("A:b:c.1", "000a:0b:0c.1"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), full);
            assert_eq!(full.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn rejects_what_no_function_can_have() {
        for text in [
            "",
            ".",
            ":",
            "01:00",
            "01:00.8",
            "01:20.0",
            "100:00.0",
            "0:01:00.0.0",
            "+1:00.0",
            "0000:0000:01:00.0",
            "01:00.",
            "g0:00.0",
            "01:0 0.0",
            "1ffffffff:01:00.0",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
