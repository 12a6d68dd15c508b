//! The address space and open files in `/proc/self`.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::MemfdFlags;

/// A mapping of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) mode: String,
    pub(crate) offset: u64,
    pub(crate) name: String,
}

/// All mappings of this process.
pub(crate) fn maps() -> Vec<Line> {
    let text = fs::read_to_string("/proc/self/maps").unwrap();
    text.lines().map(parse).collect()
}

fn parse(line: &str) -> Line {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next().unwrap().split_once('-').unwrap();
    let hex = |digits| u64::from_str_radix(digits, 16).unwrap();
    let mode = words.next().unwrap().to_owned();
    let offset = hex(words.next().unwrap());
    let name = words.skip(2).collect::<Vec<_>>().join(" ");
    Line {
        start: hex(start),
        end: hex(end),
        mode,
        offset,
        name,
    }
}

/// The mapping that holds an address.
pub(crate) fn at(address: u64) -> Option<Line> {
    maps()
        .into_iter()
        .find(|line| line.start <= address && address < line.end)
}

/// Whether all of `[start, start + len)` is reserved: private, anonymous, no access.
pub(crate) fn reserved(start: u64, len: u64) -> bool {
    let mut next = start;
    while next < start + len {
        match at(next) {
            Some(line) if line.mode == "---p" && line.name.is_empty() => next = line.end,
            _ => return false,
        }
    }
    true
}

/// The flags that smaps shows for the mapping at an address (of this process, which has no device).
pub(crate) fn vm_flags(address: u64) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in text.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            if inside {
                return flags.split_ascii_whitespace().map(str::to_owned).collect();
            }
        } else if line
            .split_once(' ')
            .is_some_and(|(range, _)| range.contains('-'))
        {
            let line = parse(line);
            inside = line.start <= address && address < line.end;
        }
    }
    panic!("nothing is mapped at {address:#x}");
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The address space without the allocator's mappings.
fn snapshot() -> (Vec<Line>, usize) {
    let kept = |line: &Line| line.name != "[heap]" && line.name != "[stack]";
    (maps().into_iter().filter(kept).collect(), open_files())
}

/// Runs a test that must leave no mapping and no descriptor behind, nor take one away.
pub(crate) fn unchanged(test: fn()) {
    let (maps, files) = snapshot();
    test();
    let (maps_after, files_after) = snapshot();
    let without = |these: &[Line], those: &[Line]| -> Vec<Line> {
        let new = these.iter().filter(|line| !those.contains(line));
        new.cloned().collect()
    };
    assert_eq!(without(&maps_after, &maps), [], "left behind");
    assert_eq!(without(&maps, &maps_after), [], "taken away");
    assert_eq!(files, files_after, "open files");
}

/// A memory file that represents a device.
pub(crate) struct File(OwnedFd);

impl File {
    pub(crate) fn new(size: u64) -> Self {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("bar", flags).unwrap();
        rustix::fs::ftruncate(&fd, size).unwrap();
        Self(fd)
    }

    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) {
        assert_eq!(
            rustix::io::pread(&self.0, &mut *buffer, offset),
            Ok(buffer.len())
        );
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        assert_eq!(rustix::io::pwrite(&self.0, bytes, offset), Ok(bytes.len()));
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
