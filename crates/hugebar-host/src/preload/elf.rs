//! What an ELF file says about how it is loaded.

use std::fs::File;

use object::elf::{self, FileHeader64};
use object::read::ReadCache;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, ReadRef};

/// How a program comes into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Loading {
    /// By this loader (`PT_INTERP`).
    By(String),
    /// It is a shared object of this name without a loader (`DT_SONAME`): a loader itself.
    Object(String),
    /// By the kernel alone.
    Alone,
}

/// An ELF program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// Its architecture (`e_machine`), or `None` for a program of 32 bits.
    pub(super) machine: Option<u16>,
    pub(super) loading: Loading,
}

/// The architecture of this command.
pub(super) const OWN_MACHINE: u16 = if cfg!(target_arch = "aarch64") {
    elf::EM_AARCH64
} else {
    elf::EM_X86_64
};

/// The usual name of an architecture.
pub(super) fn name(machine: Option<u16>) -> String {
    let known = match machine {
        None => "a processor of 32 bits",
        Some(elf::EM_X86_64) => "x86_64",
        Some(elf::EM_AARCH64) => "aarch64",
        Some(elf::EM_RISCV) => "riscv64",
        Some(elf::EM_PPC64) => "powerpc64",
        Some(elf::EM_S390) => "s390x",
        Some(other) => return format!("ELF machine {other}"),
    };
    known.to_owned()
}

/// Reads an ELF program; `None` if the file is not one.
pub(super) fn read(file: &File) -> Option<Program> {
    let cache = ReadCache::new(file);
    let data = &cache;
    let identity = data.read_bytes_at(0, 5).ok()?;
    if !identity.starts_with(&elf::ELFMAG) {
        return None;
    }
    if identity.last() != Some(&elf::ELFCLASS64) {
        return Some(Program {
            machine: None,
            loading: Loading::Alone,
        });
    }
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    Some(Program {
        machine: Some(header.e_machine(endian)),
        loading: loading(header, endian, data)?,
    })
}

fn loading<'a, R: ReadRef<'a>>(
    header: &FileHeader64<Endianness>,
    endian: Endianness,
    data: R,
) -> Option<Loading> {
    let segments = header.program_headers(endian, data).ok()?;
    for segment in segments {
        if let Some(path) = segment.interpreter(endian, data).ok()? {
            let path = String::from_utf8_lossy(path).into_owned();
            return Some(Loading::By(path));
        }
    }
    for segment in segments {
        let Some(entries) = segment.dynamic(endian, data).ok()? else {
            continue;
        };
        let value = |tag| {
            let mut all = entries.iter();
            let found = all.find(|entry| entry.tag32(endian) == Some(tag));
            found.map(|entry| entry.d_val(endian))
        };
        let (Some(strings), Some(name)) = (value(elf::DT_STRTAB), value(elf::DT_SONAME)) else {
            continue;
        };
        let name = string_at(segments, endian, data, strings.checked_add(name)?);
        return name.map(Loading::Object);
    }
    Some(Loading::Alone)
}

/// The string at an address of the loaded program.
fn string_at<'a, R: ReadRef<'a>>(
    segments: &[elf::ProgramHeader64<Endianness>],
    endian: Endianness,
    data: R,
    address: u64,
) -> Option<String> {
    let loaded = segments.iter().find(|segment| {
        let start = segment.p_vaddr(endian);
        segment.p_type(endian) == elf::PT_LOAD
            && address >= start
            && address - start < segment.p_filesz(endian)
    })?;
    let offset = address - loaded.p_vaddr(endian);
    let start = loaded.p_offset(endian).checked_add(offset)?;
    let end = start.checked_add(256)?.min(data.len().ok()?);
    let bytes = data.read_bytes_at_until(start..end, 0).ok()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}
