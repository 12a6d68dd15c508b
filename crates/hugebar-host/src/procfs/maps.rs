//! Reads the mappings of a process (`maps`) and the advice given for them (`smaps`), line by line.

use std::collections::BTreeMap;
use std::io;

use super::fd::{FileId, Identity};
use super::lines::field;
use super::process::Process;

/// A mapping: a line of `maps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapped<'a> {
    /// Its first address.
    pub(crate) start: u64,
    /// The first address after it.
    pub(crate) end: u64,
    /// Whether writes reach the file (`MAP_SHARED`).
    pub(crate) is_shared: bool,
    /// The offset that the kernel shows.
    pub(crate) offset: u64,
    /// The mapped file; inode 0 if there is none.
    pub(crate) file: FileId,
    /// The path, or the kernel's name. Others choose paths, so they prove nothing.
    pub(crate) name: &'a [u8],
}

impl<'a> Mapped<'a> {
    /// Parses a line: `7f2140000000-7f2140006000 rw-s 20000000000 00:0e 34    anon_inode:[vfio-device]`.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut rest = line;
        let mut word = || {
            let end = rest.iter().position(|byte| *byte == b' ')?;
            let (word, behind) = rest.split_at(end);
            rest = behind.trim_ascii_start();
            std::str::from_utf8(word).ok()
        };
        let (start, end) = word()?.split_once('-')?;
        let permissions = word()?;
        let offset = word()?;
        let (major, minor) = word()?.split_once(':')?;
        let inode = word()?.parse().ok()?;
        let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let number = |digits: &str| u32::from_str_radix(digits, 16).ok();
        let (start, end) = (hex(start)?, hex(end)?);
        (start < end).then_some(Self {
            start,
            end,
            is_shared: permissions.ends_with('s'),
            offset: hex(offset)?,
            file: FileId {
                device: (number(major)?, number(minor)?),
                inode,
            },
            // A path can have spaces.
            name: rest,
        })
    }
}

impl Process {
    /// Passes on each mapping, in the order of addresses.
    pub(crate) fn mappings(
        &self,
        mut each: impl FnMut(Mapped<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.lines("maps", |line| Mapped::parse(line).map_or(Ok(()), &mut each))
    }

    /// Identifies the mapped file (`map_files`), even if no descriptor of it is left. Only root
    /// (`CAP_CHECKPOINT_RESTORE`, `CAP_SYS_ADMIN`) may do so.
    pub(crate) fn mapped_file(&self, mapped: &Mapped<'_>) -> io::Result<Identity> {
        self.step()?;
        let name = format!("map_files/{:x}-{:x}", mapped.start, mapped.end);
        Identity::of(self.dir(), &name)
    }

    /// The advice for each wanted mapping, by its first address. Reads `smaps`, which removes all 1 GiB leaves.
    pub(crate) fn advice(&self, wanted: impl Fn(u64) -> bool) -> io::Result<BTreeMap<u64, Advice>> {
        let mut all = advice(wanted);
        self.lines("smaps", |line| {
            all.line(line);
            Ok(())
        })?;
        Ok(all.found)
    }
}

/// The `madvise` advice for a mapping, which only smaps shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Advice {
    /// `MADV_HUGEPAGE` (flag `hg`).
    pub hinted: bool,
    /// `MADV_NOHUGEPAGE` (flag `nh`).
    pub refused: bool,
    /// `THPeligible`, if the kernel has it. Also 0 for mappings that are short or incongruent.
    pub eligible: Option<bool>,
}

/// Finds the advice for mappings in the text of `smaps`.
struct Finder<W> {
    wanted: W,
    /// The current mapping, if it is wanted.
    current: Option<u64>,
    found: BTreeMap<u64, Advice>,
}

fn advice<W: Fn(u64) -> bool>(wanted: W) -> Finder<W> {
    Finder {
        wanted,
        current: None,
        found: BTreeMap::new(),
    }
}

impl<W: Fn(u64) -> bool> Finder<W> {
    fn line(&mut self, line: &[u8]) {
        if let Some(mapped) = Mapped::parse(line) {
            self.current = Some(mapped.start).filter(|start| (self.wanted)(*start));
            let start = self.current.into_iter();
            self.found
                .extend(start.map(|start| (start, Advice::default())));
        }
        let Some(advice) = self.current.and_then(|start| self.found.get_mut(&start)) else {
            return;
        };
        let Ok(line) = std::str::from_utf8(line) else {
            return;
        };
        if let Some(flags) = field(line, "VmFlags") {
            advice.hinted = flags.split(' ').any(|flag| flag == "hg");
            advice.refused = flags.split(' ').any(|flag| flag == "nh");
        } else if let Some(eligible) = field(line, "THPeligible") {
            advice.eligible = Some(eligible != "0");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let line =
            b"7f2140000000-7f2140006000 rw-s 20000000000 00:0e 34                        anon_inode:[vfio-device]";
        let expected = Mapped {
            start: 0x7f21_4000_0000,
            end: 0x7f21_4000_6000,
            is_shared: true,
            offset: 0x200_0000_0000,
            file: FileId {
                device: (0, 0xe),
                inode: 34,
            },
            name: b"anon_inode:[vfio-device]",
        };
        assert_eq!(Mapped::parse(line), Some(expected));
        let path = b"55f40a2b1000-55f40a2b3000 r--p 00000000 103:01 1234       /usr/\xff a b";
        let mapped = Mapped::parse(path).unwrap();
        assert_eq!(mapped.name, b"/usr/\xff a b");
        assert_eq!(mapped.file.device, (0x103, 1));
        assert!(!mapped.is_shared);
        let unnamed = Mapped::parse(b"7ffc00030000-7ffc00031000 rw-p 00000000 00:00 0 ").unwrap();
        assert_eq!((unnamed.name, unnamed.file.inode), (&b""[..], 0));
        for nonsense in [
            &b""[..],
            b"nonsense",
            b"7f00-7e00 rw-s 0 00:0e 34 anon_inode:[vfio-device]",
            b"1000-2000 rw-s 0 0e 34 x",
            b"VmFlags: rd wr",
        ] {
            assert_eq!(Mapped::parse(nonsense), None);
        }
    }

    #[test]
    fn advice_is_in_the_flags() {
        let smaps = "\
7f2140000000-7f2140006000 rw-s 20000000000 00:0e 34 anon_inode:[vfio-device]
Size:                 24 kB
THPeligible:    0
VmFlags: rd wr sh mr mw me ms pf io dc de dd 
7f2140200000-7f2240000000 rw-s 20000200000 00:0e 34 anon_inode:[vfio-device]
THPeligible:           1
VmFlags: rd wr sh mr mw me ms pf io dc de dd hg 
7f3000000000-7f3000001000 rw-p 00000000 00:00 0 
VmFlags: rd wr nh
7f4000000000-7f4000001000 rw-p 00000000 00:00 0 
VmFlags: rd wr hg
";
        let mut advice = advice(|start| start < 0x7f40_0000_0000);
        smaps.lines().for_each(|line| advice.line(line.as_bytes()));
        let of = |start: u64| advice.found[&start];
        let plain = Advice {
            eligible: Some(false),
            ..Advice::default()
        };
        assert_eq!(of(0x7f21_4000_0000), plain);
        let hinted = of(0x7f21_4020_0000);
        assert!(hinted.hinted && hinted.eligible == Some(true));
        let refused = of(0x7f30_0000_0000);
        assert!(refused.refused && !refused.hinted && refused.eligible.is_none());
        assert_eq!(advice.found.len(), 3, "what is not wanted is not kept");
    }
}
