//! Resizable BARs: the capability in extended configuration space, for a function and for its virtual functions.

use std::fs;
use std::io;
use std::path::Path;

use hugebar::leaf::Bytes;
use hugebar::pci::ExtendedCapability;

use super::extended::find;

/// For the BARs of a function.
pub(super) const REBAR: u16 = ExtendedCapability::RESIZABLE_BAR;
/// For the BARs of a physical function's virtual functions; the same format.
pub(super) const VF_REBAR: u16 = ExtendedCapability::VF_RESIZABLE_BAR;

/// A BAR that can be resized. Sizes are encoded as in the capability: 0 is 1 MiB, 10 is 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resizable {
    pub(crate) bar: u32,
    pub(crate) current: u32,
    pub(crate) largest: u32,
    /// One bit for each size that it can have.
    pub(crate) sizes: u64,
}

impl Resizable {
    /// Its present and its largest size.
    pub(super) fn could_be_larger(&self) -> String {
        let size = |power| bytes(power).map_or_else(|| "?".into(), |size| Bytes(size).to_string());
        format!(
            "BAR {} has {}, can have {}",
            self.bar,
            size(self.current),
            size(self.largest)
        )
    }
}

/// The size in bytes of an encoded size.
pub(crate) fn bytes(power: u32) -> Option<u64> {
    1_u64.checked_shl(power.checked_add(20)?)
}

/// What the kernel reports about resizable BARs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) resizable: Vec<Resizable>,
    /// BARs that can be resized, but whose present or possible sizes are unknown.
    pub(crate) unknown: Vec<u32>,
}

/// The resizable BARs that the kernel lists (`resourceN_resize` in the device's folder, since Linux 5.19),
/// which corrects what some devices say; `None` if there is no such file. `size` is the size of a BAR.
pub(super) fn by_kernel(folder: &Path, size: impl Fn(u32) -> Option<u64>) -> Option<Told> {
    let mut told = Told::default();
    for bar in 0..6 {
        let text = match fs::read_to_string(folder.join(format!("resource{bar}_resize"))) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => String::new(),
        };
        let own = || {
            // One bit for each size.
            let sizes = u64::from_str_radix(text.trim(), 16).ok()?;
            Some(Resizable {
                bar,
                current: size(bar)?.checked_ilog2()?.saturating_sub(20),
                largest: sizes.checked_ilog2()?,
                sizes,
            })
        };
        match own() {
            Some(own) => told.resizable.push(own),
            None => told.unknown.push(bar),
        }
    }
    (told != Told::default()).then_some(told)
}

/// The resizable BARs that a capability lists; `None` if configuration space ends before extended
/// capabilities, as it does for readers without privilege. `word` reads 4 bytes at an offset.
pub(super) fn resizable(
    word: impl Fn(usize) -> Option<u32>,
    capability: u16,
) -> Option<Vec<Resizable>> {
    let found = find(&word, capability)?;
    Some(found.map_or_else(Vec::new, |at| entries(|offset| word(at + offset))))
}

/// Entries of the capability: supported sizes, then control.
fn entries(word: impl Fn(usize) -> Option<u32>) -> Vec<Resizable> {
    let count = word(8).map_or(0, |control| control >> 5 & 7);
    let entry = |number| {
        let (sizes, control) = (word(4 + 8 * number)?, word(8 + 8 * number)?);
        // Bits 4 to 31 are 1 MiB to 128 TiB, the upper half of the control goes on from there.
        let sizes = u64::from(sizes >> 4) | u64::from(control >> 16) << 28;
        Some(Resizable {
            bar: control & 7,
            current: control >> 8 & 0x3f,
            largest: sizes.checked_ilog2()?,
            sizes,
        })
    };
    (0..count as usize).filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resizable(config: &[u8], capability: u16) -> Option<Vec<Resizable>> {
        let word = |offset: usize| {
            let bytes = config.get(offset..offset + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().unwrap()))
        };
        super::resizable(word, capability)
    }

    fn put(config: &mut [u8], offset: usize, word: u32) {
        config[offset..offset + 4].copy_from_slice(&word.to_le_bytes());
    }

    /// The capability of 1002:731f says 1 GiB at most, but it can have 8 GiB.
    #[test]
    fn the_kernel_knows_better() {
        let folder = tempfile::tempdir().unwrap();
        let size = |bar| (bar == 0).then_some(256 << 20);
        assert_eq!(by_kernel(folder.path(), size), None);
        let file = |bar| folder.path().join(format!("resource{bar}_resize"));
        fs::write(file(0), "0000000000003f00\n").unwrap();
        let own = Resizable {
            bar: 0,
            current: 8,
            largest: 13,
            sizes: 0x3f00,
        };
        let told = by_kernel(folder.path(), size).unwrap();
        assert_eq!(
            (&told.resizable[..], &told.unknown[..]),
            (&[own][..], &[][..])
        );
        // A BAR without an address, and so without a size; and an empty file.
        fs::write(file(2), "0000000000003f00\n").unwrap();
        fs::write(file(4), "").unwrap();
        let told = by_kernel(folder.path(), size).unwrap();
        assert_eq!(
            (&told.resizable[..], &told.unknown[..]),
            (&[own][..], &[2, 4][..])
        );
    }

    #[test]
    fn finds_sizes_behind_another_capability() {
        let mut config = vec![0; 4096];
        put(&mut config, 0x100, 0x2001_0001);
        put(&mut config, 0x200, 0x0001_0015);
        // BAR 2: 256 MiB now, 64 MiB to 16 GiB; BAR 4: 32 MiB only.
        put(&mut config, 0x204, 0x1ff << 10);
        put(&mut config, 0x208, 8 << 8 | 2 << 5 | 2);
        put(&mut config, 0x20c, 1 << 9);
        put(&mut config, 0x210, 5 << 8 | 4);
        assert_eq!(resizable(&config, VF_REBAR), Some(Vec::new()));
        let found = resizable(&config, REBAR).unwrap();
        let [first, second] = found[..] else {
            panic!("{found:?}");
        };
        assert_eq!((first.bar, first.current, first.largest), (2, 8, 14));
        assert_eq!((second.bar, second.current, second.largest), (4, 5, 5));
    }

    #[test]
    fn short_empty_and_circular_spaces() {
        let resizable = |config: &[u8]| resizable(config, REBAR);
        assert_eq!(resizable(&[0; 64]), None);
        assert_eq!(resizable(&[0; 256]), None);
        assert_eq!(resizable(&[0; 4096]), Some(Vec::new()));
        assert_eq!(resizable(&[0xff; 4096]), Some(Vec::new()));
        let mut circle = vec![0; 4096];
        put(&mut circle, 0x100, 0x1001_0001);
        assert_eq!(resizable(&circle), Some(Vec::new()));
        // A capability at the very end, whose entries are not there.
        put(&mut circle, 0x100, 0xffc1_0001);
        put(&mut circle, 0xffc, 0x0001_0015);
        assert_eq!(resizable(&circle), Some(Vec::new()));
    }

    #[test]
    fn sizes_of_the_capability() {
        assert_eq!(bytes(0), Some(1 << 20));
        assert_eq!(bytes(14), Some(16 << 30));
        assert_eq!(bytes(43), Some(1 << 63));
        assert_eq!(bytes(44), None);
        assert_eq!(bytes(u32::MAX), None);
    }
}
