//! Reads what is mapped at given addresses of this process from `/proc/self/maps`. Does not allocate, because it is
//! called when the kernel has no mappings left, not even for the allocator.

use rustix::fs::{Mode, OFlags};
use rustix::io::{Result, retry_on_intr};

use super::seam;

/// The file and offset of a shared mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backing {
    /// Major and minor number of the file system.
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
    /// File offset of the first byte.
    pub(crate) offset: u64,
}

/// What is mapped at a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum There {
    /// No mapping at all.
    Nothing,
    /// Private anonymous mappings without access cover the whole range: reservations.
    Reserved,
    /// One shared mapping of a file, of exactly this range.
    Shared(Backing),
    /// Anything else.
    Other,
}

/// Looks at `[start, start + len)` (`open`, `read` and `close` of `/proc/self/maps`).
pub(crate) fn look(start: usize, len: usize) -> Result<There> {
    let file = seam::call("open", || {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat(rustix::fs::CWD, c"/proc/self/maps", flags, Mode::empty())
    })?;
    let mut search = Search::new(start as u64, start as u64 + len as u64);
    let mut buffer = [0; 4096];
    loop {
        match retry_on_intr(|| rustix::io::read(&file, &mut buffer))? {
            0 => return Ok(search.finish()),
            read => buffer[..read].iter().for_each(|&byte| search.take(byte)),
        }
    }
}

/// The longest prefix of a line with all of its numbers: the file name may have any length.
const NUMBERS: usize = 128;

/// Reads the text byte by byte, in pieces of any length.
struct Search {
    start: u64,
    end: u64,
    line: [u8; NUMBERS],
    filled: usize,
    /// Everything from `start` to here is reserved.
    reserved_to: u64,
    found: There,
}

impl Search {
    fn new(start: u64, end: u64) -> Self {
        Self {
            start,
            end,
            line: [0; NUMBERS],
            filled: 0,
            reserved_to: start,
            found: There::Nothing,
        }
    }

    fn take(&mut self, byte: u8) {
        if byte == b'\n' {
            self.end_of_line();
            self.filled = 0;
        } else if let Some(place) = self.line.get_mut(self.filled) {
            *place = byte;
            self.filled += 1;
        }
    }

    fn end_of_line(&mut self) {
        let line = &self.line[..self.filled];
        let Some(line) = Line::parse(line) else {
            // The line is not understood, so nothing is claimed.
            self.found = There::Other;
            return;
        };
        if line.end <= self.start || self.end <= line.start {
            return;
        }
        let whole = (line.start, line.end) == (self.start, self.end);
        self.found = match self.found {
            There::Nothing if line.is_reservation() => There::Reserved,
            There::Reserved if line.is_reservation() => There::Reserved,
            There::Nothing if whole && line.shared => There::Shared(line.backing),
            _ => There::Other,
        };
        // Lines ascend: one that starts further on leaves a gap.
        if line.start <= self.reserved_to {
            self.reserved_to = line.end;
        }
    }

    fn finish(self) -> There {
        match self.found {
            There::Reserved if self.reserved_to < self.end => There::Other,
            found => found,
        }
    }
}

/// Parses `START-END MODE OFFSET MAJOR:MINOR INODE NAME`, with all numbers except the last in hexadecimal.
struct Line {
    start: u64,
    end: u64,
    accessible: bool,
    shared: bool,
    backing: Backing,
}

impl Line {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line
            .split(|&byte| byte == b' ')
            .filter(|word| !word.is_empty());
        let (start, end) = halves(words.next()?, b'-')?;
        let mode = words.next()?;
        let offset = number(words.next()?, 16)?;
        let (major, minor) = halves(words.next()?, b':')?;
        let inode = number(words.next()?, 10)?;
        Some(Self {
            start,
            end,
            accessible: mode.get(..3)? != b"---",
            shared: *mode.get(3)? == b's',
            backing: Backing {
                device: (u32::try_from(major).ok()?, u32::try_from(minor).ok()?),
                inode,
                offset,
            },
        })
    }

    fn is_reservation(&self) -> bool {
        let anonymous = self.backing.device == (0, 0) && self.backing.inode == 0;
        anonymous && !self.shared && !self.accessible
    }
}

/// Parses two hexadecimal numbers on either side of a separator.
fn halves(word: &[u8], separator: u8) -> Option<(u64, u64)> {
    let at = word.iter().position(|&byte| byte == separator)?;
    Some((number(&word[..at], 16)?, number(&word[at + 1..], 16)?))
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(core::str::from_utf8(digits).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
1000-2000 r-xp 00000000 fe:01 1234                       /usr/bin/a b
3000-5000 ---p 00000000 00:00 0 
5000-6000 ---p 00000000 00:00 0                          [anon:ours]
7000-9000 rw-s 20000001000 00:0f 1057                    anon_inode:[vfio-device]
9000-a000 ---p 00000000 00:00 0 
b000-c000 ---p 00000000 00:00 0 
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]
";

    fn at(maps: &str, start: u64, end: u64) -> There {
        let mut search = Search::new(start, end);
        maps.bytes().for_each(|byte| search.take(byte));
        search.finish()
    }

    #[test]
    fn a_range_is_told_from_its_neighbours() {
        let backing = Backing {
            device: (0, 15),
            inode: 1057,
            offset: 0x200_0000_1000,
        };
        for (start, end, there) in [
            (0x2000, 0x3000, There::Nothing),
            (0x3000, 0x6000, There::Reserved),
            (0x3800, 0x4000, There::Reserved),
            (0x2000, 0x4000, There::Other),
            (0x9000, 0xc000, There::Other),
            (0x7000, 0x9000, There::Shared(backing)),
            (0x7000, 0x8000, There::Other),
            (0x6000, 0x9000, There::Other),
            (0x5000, 0x9000, There::Other),
            (0x1000, 0x2000, There::Other),
        ] {
            assert_eq!(at(MAPS, start, end), there, "{start:#x}-{end:#x}");
        }
    }

    #[test]
    fn names_may_be_long_and_lines_odd() {
        let long = format!("1000-2000 rw-s 00000000 00:01 7 /{}\n", "x ".repeat(5000));
        assert!(matches!(at(&long, 0x1000, 0x2000), There::Shared(_)));
        assert_eq!(at("nonsense\n", 0x1000, 0x2000), There::Other);
        assert_eq!(at("", 0x1000, 0x2000), There::Nothing);
    }

    #[test]
    fn this_process_is_read() {
        let page = std::ptr::from_ref(&MAPS) as usize & !4095;
        assert_eq!(look(page, 4096), Ok(There::Other));
        assert_eq!(look(0, 4096), Ok(There::Nothing));
    }
}
