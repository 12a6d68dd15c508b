//! The process's VFIO and KVM files and mappings, its eventfds, and the memory that it has locked.

use std::fs;

use anyhow::{Result, ensure};

/// Descriptors and mappings of VFIO and KVM, eventfds, and locked memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State {
    files: Vec<String>,
    mappings: Vec<String>,
    reserved: u64,
    /// What IOMMUs map is locked (`VmLck` of type1, `VmPin` of iommufd).
    locked: Vec<String>,
}

impl State {
    pub(crate) fn observe() -> Result<Self> {
        let mut files = open()?;
        files.retain(|name| {
            ["vfio", "kvm", "iommu", "dmabuf", "eventfd"]
                .iter()
                .any(|word| name.contains(word))
        });
        files.sort();
        let maps = fs::read_to_string("/proc/self/maps")?;
        let ours = |line: &&str| line.contains("vfio") || line.contains("hugebar");
        let mappings = maps.lines().filter(ours).map(str::to_owned).collect();
        let status = fs::read_to_string("/proc/self/status")?;
        let locked = |line: &&str| line.starts_with("VmLck:") || line.starts_with("VmPin:");
        Ok(Self {
            locked: status.lines().filter(locked).map(str::to_owned).collect(),
            files,
            mappings,
            reserved: maps.lines().filter_map(reservation).sum(),
        })
    }

    /// Checks that nothing was left open, mapped or reserved since then.
    pub(crate) fn unchanged(&self) -> Result<()> {
        let now = Self::observe()?;
        ensure!(now == *self, "before: {self:#?}\nnow: {now:#?}");
        Ok(())
    }
}

/// The open files of this process.
fn open() -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        // The descriptor of this listing itself is closed already.
        if let Ok(target) = fs::read_link(entry?.path()) {
            files.push(target.display().to_string());
        }
    }
    Ok(files)
}

/// How many open files have a word in their names.
pub(crate) fn count(word: &str) -> Result<usize> {
    Ok(open()?.iter().filter(|name| name.contains(word)).count())
}

/// Prints the open files whose names contain a word.
pub(crate) fn print(word: &str) -> Result<()> {
    let files = open()?;
    let found = files.iter().filter(|name| name.contains(word));
    found.for_each(|name| println!("{name}"));
    Ok(())
}

/// The size of a large reservation: only windows have a GiB or more; an allocator's arenas are smaller.
fn reservation(line: &str) -> Option<u64> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let hex = |digits| u64::from_str_radix(digits, 16).ok();
    let len = hex(end)? - hex(start)?;
    (words.next()? == "---p" && len >= 1 << 30).then_some(len)
}
