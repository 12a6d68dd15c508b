//! Names of vendors, devices and classes, from the system's `pci.ids`.

use std::fs::File;
use std::io::Read;

use hugebar::pci::ClassCode;

/// Where distributions have it.
const PLACES: [&str; 3] = [
    "/usr/share/hwdata/pci.ids",
    "/usr/share/misc/pci.ids",
    "/usr/share/pci.ids",
];

/// How much of it is read at most: ten times its length today.
const LONGEST: u64 = 16 << 20;

/// The text of `pci.ids`: a line for each vendor, with its devices below it, and the classes at the end.
#[derive(Clone, Debug, Default)]
pub struct PciIds(String);

impl PciIds {
    /// Reads the system's file; without one there are no names.
    pub fn read() -> Self {
        let text = PLACES.iter().find_map(|place| {
            let mut text = Vec::new();
            let file = File::open(place).ok()?;
            file.take(LONGEST).read_to_end(&mut text).ok()?;
            Some(String::from_utf8_lossy(&text).into_owned())
        });
        Self(text.unwrap_or_default())
    }

    /// Takes the text of such a file.
    pub fn parse(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The name of a vendor.
    pub fn vendor(&self, vendor: u16) -> Option<&str> {
        name(self.vendor_line(vendor)?.next()?)
    }

    /// The name of a device.
    pub fn device(&self, vendor: u16, device: u16) -> Option<&str> {
        let key = format!("\t{device:04x}");
        let own = |line: &&str| line.starts_with(&key);
        below(self.vendor_line(vendor)?, 1).find(own).and_then(name)
    }

    /// The name of a card: a device in the subsystem of a vendor.
    pub fn subsystem(&self, ids: (u16, u16), subsystem: (u16, u16)) -> Option<&str> {
        let key = format!("\t{:04x}", ids.1);
        let mut lines = below(self.vendor_line(ids.0)?, 1);
        lines.find(|line| line.starts_with(&key))?;
        let key = format!("\t\t{:04x} {:04x}", subsystem.0, subsystem.1);
        let mut cards = lines.take_while(|line| line.starts_with("\t\t") || line.starts_with('#'));
        cards.find(|line| line.starts_with(&key)).and_then(name)
    }

    /// The name of a class: of the subclass if it has one.
    pub fn class(&self, code: ClassCode) -> Option<&str> {
        let key = format!("C {:02x}", code.class);
        let mut lines = self.0.lines().skip_while(|line| !line.starts_with(&key));
        let class = lines.next()?;
        let key = format!("\t{:02x}", code.subclass);
        let mut subclasses = lines.take_while(|line| is_below(line, 1));
        let subclass = subclasses.find(|line| line.starts_with(&key));
        name(subclass.unwrap_or(class))
    }

    /// The line of a vendor, and all behind it.
    fn vendor_line(&self, vendor: u16) -> Option<impl Iterator<Item = &str>> {
        let key = format!("{vendor:04x}");
        let mut lines = self.0.lines().peekable();
        while let Some(line) = lines.peek() {
            // Classes come last, and `C 01` could be the vendor c01.
            if line.starts_with("C ") {
                return None;
            }
            if line.starts_with(&key) {
                return Some(lines);
            }
            lines.next();
        }
        None
    }
}

/// The lines below the first one.
fn below<'a>(lines: impl Iterator<Item = &'a str>, depth: usize) -> impl Iterator<Item = &'a str> {
    lines.skip(1).take_while(move |line| is_below(line, depth))
}

/// Whether a line is at this depth or deeper, or says nothing.
fn is_below(line: &str, depth: usize) -> bool {
    let tabs = line.bytes().take_while(|byte| *byte == b'\t').count();
    tabs >= depth || line.is_empty() || line.starts_with('#')
}

/// What follows the numbers, behind two spaces.
fn name(line: &str) -> Option<&str> {
    let (_, name) = line.split_once("  ")?;
    let name = name.trim();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# A comment
1002  Advanced Micro Devices, Inc. [AMD/ATI]
\t731f  Navi 10
10de  NVIDIA Corporation
\t2330  GH100 [H100 SXM5 80GB]
# in between
\t\t10de 16c1  H100 card

\t2331  GH100 [H100 PCIe]
\t\t10de 1626  another
1b36  Red Hat, Inc.
\t0005  QEMU PCI Test Device

C 03  Display controller
\t00  VGA compatible controller
\t\t00  VGA controller
\t02  3D controller
C 05  Memory controller
C 10de  no class, nor a vendor
";

    #[test]
    fn names_by_numbers() {
        let ids = PciIds::parse(TEXT);
        assert_eq!(ids.vendor(0x10de), Some("NVIDIA Corporation"));
        assert_eq!(ids.device(0x10de, 0x2330), Some("GH100 [H100 SXM5 80GB]"));
        assert_eq!(ids.device(0x10de, 0x2331), Some("GH100 [H100 PCIe]"));
        assert_eq!(ids.device(0x1002, 0x2331), None, "another vendor's");
        assert_eq!(ids.vendor(0xffff), None);
        assert_eq!(ids.vendor(0x00c0), None);
        let card = |device, own| ids.subsystem((0x10de, device), (0x10de, own));
        assert_eq!(card(0x2330, 0x16c1), Some("H100 card"));
        assert_eq!(card(0x2331, 0x1626), Some("another"));
        assert_eq!(card(0x2330, 0x1626), None, "another device's");
    }

    #[test]
    fn classes_by_subclass_or_class() {
        let ids = PciIds::parse(TEXT);
        let class = |class, subclass| ids.class(ClassCode::new(class, subclass, 0));
        assert_eq!(class(3, 0), Some("VGA compatible controller"));
        assert_eq!(class(3, 2), Some("3D controller"));
        assert_eq!(class(3, 0x80), Some("Display controller"));
        assert_eq!(class(5, 0), Some("Memory controller"));
        assert_eq!(class(6, 4), None);
        assert_eq!(PciIds::default().class(ClassCode::new(3, 0, 0)), None);
    }
}
