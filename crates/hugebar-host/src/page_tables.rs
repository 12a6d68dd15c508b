//! Reads leaves from the kernel's page-table dump (`CONFIG_PTDUMP_DEBUGFS`).
//!
//! Unlike smaps, the dump changes nothing. It walks all tables of this process. Only x86 has such a dump: those of
//! other architectures (arm64's `kernel_page_tables`) show the kernel's tables only.

use std::env::consts::ARCH;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;

use hugebar::leaf::{LeafSizes, Leaves};
use hugebar::mem::{MappedArea, Mapping};

use crate::error::Error;

/// The tables of the reading process (`arch/x86/mm/debug_pagetables.c`).
const DUMP: &str = "/sys/kernel/debug/page_tables/current_user";

/// Reads the leaves in the page tables for a mapping of this process, by the sizes of this machine.
///
/// # Errors
///
/// If `/sys/kernel/debug/page_tables/current_user` cannot be read: it needs x86, root, debugfs and a kernel with
/// `CONFIG_PTDUMP_DEBUGFS`.
pub fn leaves(mapping: &Mapping, sizes: &LeafSizes) -> Result<Leaves, Error> {
    let areas: Vec<_> = mapping.areas().iter().map(addresses).collect();
    let dump = known_on(ARCH).and_then(|()| File::open(DUMP));
    let dump = BufReader::new(dump.map_err(Error::file(DUMP))?);
    let mut leaves = Leaves::none(sizes);
    for line in dump.lines() {
        if let Some(row) = parse(&line.map_err(Error::file(DUMP))?, sizes) {
            for area in &areas {
                leaves.add(row.leaf, row.leaves_in(area));
            }
        }
    }
    Ok(leaves)
}

/// Whether an architecture, as [`std::env::consts::ARCH`] calls it, dumps the tables of a process in this form.
fn known_on(architecture: &str) -> io::Result<()> {
    if architecture == "x86_64" {
        return Ok(());
    }
    let text = format!("{architecture} has no dump of a process's page tables, only x86 has");
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

fn addresses(mapped: &MappedArea) -> Range<u64> {
    mapped.address()..mapped.address() + mapped.area.size
}

/// Adjacent leaves of one kind.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    range: Range<u64>,
    /// Size of each.
    leaf: u64,
}

impl Row {
    /// How many of them lie in a range of addresses.
    fn leaves_in(&self, area: &Range<u64>) -> u64 {
        let start = self.range.start.max(area.start);
        let end = self.range.end.min(area.end);
        end.saturating_sub(start) / self.leaf
    }
}

/// Parses a row such as `0x00007f0040000000-0x00007f0080000000  1G USR RW PCD PSE NX pud`; `None` for rows that
/// map nothing, and for headings.
fn parse(line: &str, sizes: &LeafSizes) -> Option<Row> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let range = hex(start)?..hex(end)?;
    let _length = words.next()?;
    // Mappings of this process have USR; the rest of a row without it is empty.
    if words.next()? != "USR" {
        return None;
    }
    let level = match words.next_back()? {
        "pte" => 0,
        "pmd" => 1,
        "pud" => 2,
        _ => return None,
    };
    let leaf = *sizes.as_slice().get(level)?;
    Some(Row { range, leaf })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_dump() {
        let row = |line| parse(line, &LeafSizes::X86_64);
        let gib = 1 << 30;
        assert_eq!(
            row(
                "0x00007f0040000000-0x00007f0140000000           4G USR RW     PCD         PSE     NX pud"
            ),
            Some(Row {
                range: 0x7f00_4000_0000..0x7f01_4000_0000,
                leaf: gib
            })
        );
        assert_eq!(
            row(
                "0x00005623f750f000-0x00005623f7540000         196K USR ro                     NX pte"
            ),
            Some(Row {
                range: 0x5623_f750_f000..0x5623_f754_0000,
                leaf: 4096
            })
        );
        for nothing in [
            "---[ User Space ]---",
            "0x0000560000000000-0x00005623c0000000         143G                               pud",
            "0x0000000000000000-0x0000560000000000          86T                               p4d",
            "",
        ] {
            assert_eq!(row(nothing), None, "{nothing}");
        }
    }

    /// A row names the level of its leaves, and the sizes of the levels are those of the machine.
    #[test]
    fn leaves_are_of_the_size_of_their_level() {
        let row = |kind: &str, sizes: &LeafSizes| {
            let line = format!("0x00007f0040000000-0x00007f0080000000 1G USR RW NX {kind}");
            parse(&line, sizes).map(|row| row.leaf)
        };
        for (sizes, leaves) in [
            (
                LeafSizes::X86_64,
                [Some(4 << 10), Some(2 << 20), Some(1 << 30)],
            ),
            (LeafSizes::ARM64_16K, [Some(16 << 10), Some(32 << 20), None]),
            (
                LeafSizes::ARM64_64K,
                [Some(64 << 10), Some(512 << 20), None],
            ),
        ] {
            let found = ["pte", "pmd", "pud"].map(|kind| row(kind, &sizes));
            assert_eq!(found, leaves, "{sizes:?}");
        }
    }

    /// The dump of another architecture is refused, and its rows are not taken for x86's, which name the level last
    /// (`arch/arm64/mm/ptdump.c`, with 16 KiB and 64 KiB pages).
    #[test]
    fn dumps_of_arm64_are_not_misread() {
        assert!(known_on("x86_64").is_ok());
        for other in ["aarch64", "riscv64"] {
            let error = Error::file(DUMP)(known_on(other).unwrap_err());
            assert!(error.to_string().contains(other), "{error}");
        }
        for line in [
            "0x0000ffff80000000-0x0000ffffa0000000         512M PMD   BLK     RW NX SHD AF NG     UXN    DEVICE/nGnRE",
            "0x0000ffff80000000-0x0000ffff82000000          32M PMD   BLK USR RW NX SHD AF NG     UXN    DEVICE/nGnRE",
            "0x0000ffff80000000-0x0000ffff80004000          16K PTE       USR RW NX SHD AF NG     UXN    MEM/NORMAL",
            "0x0000ffff80000000-0x0000ffff80010000          64K PTE       USR RW NX SHD AF NG CON UXN    MEM/NORMAL",
            "0x0000fffc00000000-0x0000ffff80000000          14G PMD",
            "---[ Linear Mapping start ]---",
        ] {
            for sizes in [LeafSizes::ARM64_16K, LeafSizes::ARM64_64K] {
                assert_eq!(parse(line, &sizes), None, "{line}");
            }
        }
    }

    #[test]
    fn rows_that_reach_beyond_an_area_count_in_part() {
        let row = Row {
            range: 0x1000..0x9000,
            leaf: 0x1000,
        };
        assert_eq!(row.leaves_in(&(0x3000..0x5000)), 2);
        assert_eq!(row.leaves_in(&(0x8000..0x10000)), 1);
        assert_eq!(row.leaves_in(&(0x9000..0x10000)), 0);
        assert_eq!(row.leaves_in(&(0..0x20000)), 8);
    }
}
