//! The uncompressed kernel in a compressed image of x86-64. QEMU starts it at its entry for PVH, and an emulated CPU
//! is spared the time that it would take to decompress it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::read::elf::{ElfFile64, FileHeader, SectionHeader};
use object::{Endianness, elf::FileHeader64};

use super::modules::decompress;
use super::spec::Kernel;
use crate::cache::Cache;

/// Type of the note `Xen` that has the entry for PVH (`XEN_ELFNOTE_PHYS32_ENTRY`).
const PVH_ENTRY: u32 = 18;

/// Adds the uncompressed kernel, which is kept beside the image; an empty file there means that QEMU could not start it.
pub(super) fn add(cache: &Cache, mut kernel: Kernel) -> Result<Kernel> {
    let name = format!("kernels/{}/vmlinux", kernel.release);
    let path = cache.path(&name);
    if !path.exists() {
        let vmlinux = fs::read(&kernel.vmlinuz).context("cannot read the image")?;
        // Without it the machine boots as well, but slower.
        cache.replace(&name, &unpack(&vmlinux).unwrap_or_default())?;
    }
    kernel.vmlinux = (fs::metadata(&path)?.len() > 0).then_some(path);
    Ok(kernel)
}

/// The kernel in an image, if it can be unpacked and has an entry for PVH.
fn unpack(image: &[u8]) -> Result<Vec<u8>> {
    let (packed, ending) = payload(image)?;
    let (packed, size) = match ending {
        // The size ends the format itself.
        "gz" => (packed, packed.last_chunk::<4>()),
        _ => packed
            .split_last_chunk::<4>()
            .map(|(packed, size)| (packed, Some(size)))
            .context("no size at its end")?,
    };
    let size = u32::from_le_bytes(*size.context("no size at its end")?);
    let work = tempfile::tempdir()?;
    let file = work.path().join(format!("vmlinux.{ending}"));
    fs::write(&file, packed)?;
    let kernel = decompress(Path::new(&file))?;
    ensure!(u32::try_from(kernel.len()) == Ok(size), "not of its size");
    ensure!(has_pvh_entry(&kernel)?, "no entry for PVH");
    Ok(kernel)
}

/// The compressed kernel in an image and the ending of its format, by the header that Documentation/arch/x86/boot.rst
/// describes.
fn payload(image: &[u8]) -> Result<(&[u8], &'static str)> {
    let at = |offset: usize, size| image.get(offset..offset.saturating_add(size));
    let number = |offset| -> Result<usize> {
        let bytes = at(offset, 4).context("no header")?;
        Ok(usize::try_from(u32::from_le_bytes(bytes.try_into()?))?)
    };
    ensure!(at(0x202, 4) == Some(b"HdrS"), "no image of x86");
    let sectors = match image[0x1f1] {
        0 => 4,
        count => usize::from(count),
    };
    let start = (sectors + 1) * 512 + number(0x248)?;
    let packed = at(start, number(0x24c)?).context("its end is missing")?;
    for (magic, ending) in [
        (&b"\x28\xb5\x2f\xfd"[..], "zst"),
        (b"\xfd7zXZ", "xz"),
        (b"\x1f\x8b", "gz"),
    ] {
        if packed.starts_with(magic) {
            return Ok((packed, ending));
        }
    }
    anyhow::bail!("packed in an unknown format")
}

fn has_pvh_entry(kernel: &[u8]) -> Result<bool> {
    let file = ElfFile64::<Endianness>::parse(kernel)?;
    let (header, endian): (&FileHeader64<Endianness>, _) = (file.elf_header(), file.endian());
    for section in header.sections(endian, kernel)?.iter() {
        let Some(mut notes) = section.notes(endian, kernel)? else {
            continue;
        };
        while let Some(note) = notes.next()? {
            if note.name() == b"Xen" && note.n_type(endian) == PVH_ENTRY {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image with this payload.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 16;
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend([0; 16]);
        image.extend(payload);
        image
    }

    #[test]
    fn the_payload_is_where_the_header_says() {
        for (payload, ending) in [
            (&b"\x28\xb5\x2f\xfdzst"[..], "zst"),
            (b"\xfd7zXZ\0xz", "xz"),
            (b"\x1f\x8bgz", "gz"),
        ] {
            let mut image = image(payload);
            image.extend(b"more");
            assert_eq!(super::payload(&image).unwrap(), (payload, ending));
            assert!(super::payload(&image[..1041]).is_err());
        }
        assert!(payload(&image(b"other")).is_err());
        assert!(payload(&[0; 4096]).is_err());
        assert!(payload(&[]).is_err());
    }

    /// A program is no kernel: it has no entry for PVH.
    #[test]
    fn what_qemu_cannot_start_is_not_taken() {
        let program = fs::read("/proc/self/exe").unwrap();
        assert!(!has_pvh_entry(&program).unwrap());
        assert!(has_pvh_entry(b"no ELF").is_err());
    }
}
