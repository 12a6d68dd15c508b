//! What the size of a process's page tables (`VmPTE`) tells about its leaves. Reading it disturbs nothing.
//!
//! `VmPTE` is the size of all PTE, PMD and PUD tables of a process. It allows two conclusions:
//!
//! - An upper bound is what all other mappings could need at most, plus what the device mappings need with their
//!   possible leaves. If there are more tables, some device mapping has smaller leaves.
//! - A mapping populated entirely in base pages has all of its PTE tables. If there are fewer tables than that, it is not.
//!
//! Tables do not outlive the mappings that they belong to (`free_pgtables`), and the kernel installs no larger leaf where
//! a PTE table is left. The need of a mapping follows from its length, however much of it is populated.

use std::env::consts::ARCH;
use std::io;
use std::ops::Range;

use hugebar::facts::Status;
use hugebar::leaf::{self, LeafSizes};

/// Levels whose tables the kernel counts. A folded level has none, which an upper bound may ignore.
const LEVELS: usize = 3;

/// Tables outside all mappings: with page-table isolation, x86 maps a process's LDT (`map_ldt_struct`), which takes at
/// most one table of each level.
const ELSEWHERE: u64 = LEVELS as u64;

/// How often to look at a process again that changed its mappings in the meantime.
const TRIES: usize = 4;

/// The end of user addresses on all architectures. Above it `maps` shows x86's vsyscall page, which is the kernel's.
const USER_END: u64 = 1 << 63;

/// The page tables that mappings need at most, and their total length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    page: u64,
    /// The size of the tables in bytes.
    tables: u64,
    /// The length of the mappings in bytes.
    mapped: u64,
    /// The last table of each level: the next mapping may share it.
    last: [Option<u64>; LEVELS],
}

impl Footprint {
    /// No mappings, on a machine with this page size.
    pub(crate) fn new(page: u64) -> Self {
        Self {
            page,
            tables: 0,
            mapped: 0,
            last: [None; LEVELS],
        }
    }

    /// Adds a mapping. Added by rising address, shared tables are counted once.
    pub(crate) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() || range.start >= USER_END {
            return;
        }
        self.mapped = self.mapped.saturating_add(range.end - range.start);
        for level in 0..LEVELS {
            let cover = cover(self.page, level);
            let (first, last) = (range.start / cover, (range.end - 1) / cover);
            let shared = u64::from(self.last[level] == Some(first));
            let count = (last - first + 1).saturating_sub(shared);
            self.tables = self.tables.saturating_add(count.saturating_mul(self.page));
            self.last[level] = Some(last);
        }
    }
}

/// The bytes that a table of a level covers. A table is a page of 8-byte entries.
fn cover(page: u64, level: usize) -> u64 {
    (0..=level).fold(page, |size, _| size.saturating_mul(page / 8))
}

/// The size of the tables that cover a range, from a level upwards, in bytes.
fn tables(range: &Range<u64>, lowest: usize, page: u64) -> u64 {
    let count = |level| {
        let cover = cover(page, level);
        (range.end - 1) / cover - range.start / cover + 1
    };
    let counts = (lowest..LEVELS).map(count).fold(0, u64::saturating_add);
    counts.saturating_mul(page)
}

/// The page tables in bytes that a mapping of `[hva, hva + size)` needs with the leaves of vfio-pci's rule
/// ([`leaf::runs`]). With base pages only, this is what it has once it is fully populated.
pub(crate) fn needed(hva: u64, hpa: u64, size: u64, sizes: &LeafSizes) -> u64 {
    let of_run = |run: leaf::Run| {
        // User addresses are below 2^63, so nothing wraps around.
        let bytes = u64::try_from(run.bytes()).unwrap_or(u64::MAX);
        let range = run.start..run.start.saturating_add(bytes);
        // A leaf is an entry in a table of its level; there are no tables below it.
        let level = sizes.as_slice().iter().position(|&size| size == run.size);
        tables(&range, level.unwrap_or(0), sizes.base())
    };
    leaf::runs(hva, hpa, size, sizes)
        .map(of_run)
        .fold(0, u64::saturating_add)
}

/// The page tables that a process had while it was looked at, and the need of its other mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// The smaller of the sizes before and after its mappings were read.
    least: u64,
    /// The larger of the two.
    most: u64,
    /// The most that its other mappings can need.
    others: u64,
}

impl Observed {
    /// From `status` before and after its mappings were read. `None` if the mappings that were read were not all, which
    /// their length tells (`VmSize`), or if this architecture's tables are not known to work like this.
    fn new(before: &Status, after: &Status, others: &Footprint, devices: u64) -> Option<Self> {
        let mapped = others.mapped.checked_add(devices)?;
        let complete = |status: &Status| status.vm_size == Some(mapped);
        if !is_known(ARCH) || !complete(before) || !complete(after) {
            return None;
        }
        let (before, after) = (before.vm_pte?, after.vm_pte?);
        Some(Self {
            least: before.min(after),
            most: before.max(after),
            others: others.tables,
        })
    }

    /// The size of its tables in bytes, the least that was seen.
    pub(crate) fn least(&self) -> u64 {
        self.least
    }

    /// The most that its mappings can need if the device mappings need `devices`.
    pub(crate) fn bound(&self, page: u64, devices: u64) -> u64 {
        let elsewhere = page.saturating_mul(ELSEWHERE);
        self.others
            .saturating_add(devices)
            .saturating_add(elsewhere)
    }

    /// Whether there are more tables than that.
    pub(crate) fn exceed(&self, page: u64, devices: u64) -> bool {
        self.least > self.bound(page, devices)
    }

    /// Whether there are fewer tables than a mapping needs.
    pub(crate) fn fall_short_of(&self, needed: u64) -> bool {
        self.most < needed
    }
}

#[cfg(test)]
impl Observed {
    pub(crate) fn test(tables: u64, others: u64) -> Self {
        Self {
            least: tables,
            most: tables,
            others,
        }
    }
}

/// Whether tables of this architecture are pages of 8-byte entries, and a leaf of device memory needs no table in
/// reserve for being split (powerpc does: `arch_needs_pgtable_deposit`).
fn is_known(architecture: &str) -> bool {
    matches!(architecture, "x86_64" | "aarch64")
}

/// Reads the mappings of a process between two reads of its `status`, and again if the process changed them in the
/// meantime. `read` returns the device mappings and adds all others to a footprint; `length` is the total length of the
/// device mappings.
///
/// Returns the result of `read`, the last `status`, and what is known about the page tables.
pub(crate) fn observe<T>(
    page: u64,
    status: impl Fn() -> io::Result<Status>,
    mut read: impl FnMut(&mut Footprint) -> io::Result<T>,
    length: impl Fn(&T) -> u64,
) -> io::Result<(T, Status, Option<Observed>)> {
    let mut tries = 0;
    loop {
        let before = status()?;
        let mut others = Footprint::new(page);
        let found = read(&mut others)?;
        let after = status()?;
        let devices = length(&found);
        let observed = Observed::new(&before, &after, &others, devices);
        tries += 1;
        // Without a device mapping there is nothing to judge.
        if observed.is_some() || tries == TRIES || devices == 0 {
            return Ok((found, after, observed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hugebar::leaf::{GIB, KIB, MIB};

    const PAGE: u64 = 4 * KIB;
    const BASE: u64 = 0x7f00_0000_0000;

    fn footprint(page: u64, mappings: &[(u64, u64)]) -> Footprint {
        let mut all = Footprint::new(page);
        for (start, end) in mappings {
            all.add(*start..*end);
        }
        all
    }

    #[test]
    fn a_mapping_needs_a_table_for_each_part_that_it_lies_in() {
        let tables = |mappings: &[(u64, u64)]| footprint(PAGE, mappings).tables / PAGE;
        assert_eq!(tables(&[]), 0);
        assert_eq!(tables(&[(BASE, BASE + PAGE)]), 3);
        assert_eq!(tables(&[(BASE + PAGE, BASE + 2 * MIB)]), 3);
        // It reaches into a second PTE table and a second PMD table.
        assert_eq!(tables(&[(BASE + PAGE, BASE + 2 * MIB + PAGE)]), 4);
        assert_eq!(tables(&[(BASE + GIB - PAGE, BASE + GIB + PAGE)]), 5);
        assert_eq!(tables(&[(BASE, BASE + 4 * GIB)]), 2048 + 4 + 1);
        // Neighbours share tables; distant mappings do not.
        let one = (BASE, BASE + PAGE);
        assert_eq!(tables(&[one, (BASE + MIB, BASE + MIB + PAGE)]), 3);
        assert_eq!(tables(&[one, (BASE + GIB, BASE + GIB + PAGE)]), 5);
        let stack = 0x7fff_0000_0000;
        assert_eq!(tables(&[one, (stack, stack + PAGE)]), 6);
        // The vsyscall page is the kernel's.
        assert_eq!(tables(&[(0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_1000)]), 0);
    }

    #[test]
    fn larger_pages_have_larger_tables() {
        let tables = |page| footprint(page, &[(BASE, BASE + 4 * GIB)]).tables;
        assert_eq!(tables(16 * KIB), (128 + 1 + 1) * 16 * KIB);
        assert_eq!(tables(64 * KIB), (8 + 1 + 1) * 64 * KIB);
    }

    #[test]
    fn large_leaves_need_no_smaller_tables() {
        let needed = |address, sizes: &LeafSizes| needed(address, 0, 4 * GIB, sizes) / sizes.base();
        let x86 = LeafSizes::X86_64;
        assert_eq!(needed(BASE, &x86.only_base()), 2048 + 4 + 1);
        // Measured on Linux, PUD table aside: none for 1 GiB leaves, 16 KiB for 2 MiB leaves.
        assert_eq!(needed(BASE, &x86), 1);
        assert_eq!(needed(BASE, &x86.below(GIB).unwrap()), 4 + 1);
        assert_eq!(needed(BASE + 2 * MIB, &x86), 5 + 1);
        assert_eq!(needed(BASE, &LeafSizes::ARM64_64K), 1 + 1);
    }

    fn status(vm_pte: u64, vm_size: u64) -> Status {
        let text = format!(
            "VmSize:\t{} kB\nVmPTE:\t{} kB\n",
            vm_size / KIB,
            vm_pte / KIB
        );
        Status::parse(text.as_bytes())
    }

    /// A program of 10 MiB that has a BAR of 4 GiB mapped.
    fn observed(before: u64, after: u64) -> Observed {
        let others = footprint(PAGE, &[(0x5600_0000_0000, 0x5600_00a0_0000)]);
        assert_eq!(others.tables, 7 * PAGE);
        let size = 4 * GIB + 10 * MIB;
        let (before, after) = (status(before, size), status(after, size));
        Observed::new(&before, &after, &others, 4 * GIB).unwrap()
    }

    #[test]
    fn more_tables_than_all_mappings_can_need_exceed() {
        // Those of the program, the PUD table of the BAR, and those for an LDT.
        let bound = (7 + 1 + 3) * PAGE;
        let exceed = |tables: Observed| tables.exceed(PAGE, PAGE);
        assert!(!exceed(observed(bound, bound)));
        assert!(exceed(observed(bound + PAGE, bound + PAGE)));
        assert!(exceed(observed(8812 * KIB, 8812 * KIB)));
        // It was less in the meantime.
        assert!(!exceed(observed(8812 * KIB, bound)));
        assert!(!exceed(observed(bound, 8812 * KIB)));
    }

    #[test]
    fn fewer_tables_than_base_pages_take_fall_short() {
        let filled = needed(BASE, 0, 4 * GIB, &LeafSizes::X86_64.only_base());
        assert!(observed(604 * KIB, 604 * KIB).fall_short_of(filled));
        assert!(observed(filled - PAGE, filled - PAGE).fall_short_of(filled));
        assert!(!observed(filled, filled).fall_short_of(filled));
        assert!(!observed(604 * KIB, filled).fall_short_of(filled));
        assert!(!observed(filled, 604 * KIB).fall_short_of(filled));
    }

    #[test]
    fn what_changes_meanwhile_is_looked_at_again_and_says_nothing_in_the_end() {
        let own = BASE..BASE + PAGE;
        let look = |sizes: &[u64]| {
            let mut sizes = sizes.iter().copied().cycle();
            let sizes = std::cell::RefCell::new(move || sizes.next().unwrap());
            let mut reads = 0;
            let next = || Ok(status(4 * PAGE, (*sizes.borrow_mut())()));
            let read = |others: &mut Footprint| {
                reads += 1;
                others.add(own.clone());
                Ok(GIB)
            };
            let (_, _, observed) = observe(PAGE, next, read, |size| *size).unwrap();
            (reads, observed.is_some())
        };
        let (right, wrong) = (GIB + PAGE, GIB + 2 * PAGE);
        assert_eq!(look(&[right]), (1, true));
        assert_eq!(look(&[right, wrong, right, right]), (2, true));
        assert_eq!(look(&[wrong, right]), (TRIES, false));
        assert_eq!(look(&[wrong]), (TRIES, false));
        // Without a device mapping one look is enough.
        let read = |_: &mut Footprint| Ok(());
        let (_, _, observed) = observe(PAGE, || Ok(status(PAGE, PAGE)), read, |()| 0).unwrap();
        assert_eq!(observed, None);
    }

    #[test]
    fn not_every_architecture_has_such_tables() {
        assert!(is_known("x86_64") && is_known("aarch64"));
        // There, a leaf keeps a table in reserve, and tables are smaller than a page.
        assert!(!is_known("powerpc64") && !is_known("s390x"));
    }

    /// This process's own tables are within the bound.
    #[test]
    fn the_bound_holds_for_this_process() {
        let page = hugebar::facts::leaf_sizes().base();
        let mappings = || {
            let mut all = Footprint::new(page);
            for line in std::fs::read_to_string("/proc/self/maps").unwrap().lines() {
                let (range, _) = line.split_once(' ').unwrap();
                let (start, end) = range.split_once('-').unwrap();
                let hex = |text| u64::from_str_radix(text, 16).unwrap();
                all.add(hex(start)..hex(end));
            }
            all
        };
        // Other tests map and unmap in the meantime.
        let complete = (0..1000).find_map(|_| {
            let before = Status::own().unwrap();
            let all = mappings();
            Observed::new(&before, &Status::own().unwrap(), &all, 0)
        });
        let complete = complete.expect("VmSize is the length of all mappings");
        assert!(!complete.exceed(page, 0), "{complete:?}");
    }

    /// A mapping never needs more than in base pages, apart from the tables that its runs share; and in base pages it
    /// needs what a footprint counts.
    #[test]
    fn base_pages_need_most() {
        for sizes in [
            LeafSizes::X86_64,
            LeafSizes::ARM64_4K,
            LeafSizes::ARM64_16K,
            LeafSizes::ARM64_64K,
        ] {
            let page = sizes.base();
            let places = [0, page, 7 * page, 2 * MIB, 512 * MIB, GIB - page, GIB];
            for start in places.map(|place| BASE + place) {
                for hpa in places {
                    for size in [
                        page,
                        3 * page,
                        2 * MIB,
                        GIB - page,
                        3 * GIB,
                        95 * GIB + page,
                    ] {
                        let filled = needed(start, hpa, size, &sizes.only_base());
                        let large = needed(start, hpa, size, &sizes);
                        let shared = 4 * ELSEWHERE * page;
                        assert!(large <= filled + shared, "{start:#x} {hpa:#x} {size:#x}");
                        let pages = (start, start + size.next_multiple_of(page));
                        assert_eq!(footprint(page, &[pages]).tables, filled);
                    }
                }
            }
        }
    }

    #[test]
    fn no_addresses_overflow() {
        let places = [0, 1, PAGE, USER_END - 1, USER_END, u64::MAX];
        for start in places {
            for end in places {
                let all = footprint(PAGE, &[(start, end), (start, end)]);
                assert_eq!(all.tables % PAGE, 0);
            }
        }
        let most = needed(USER_END - PAGE, 7, u64::MAX, &LeafSizes::X86_64);
        assert_eq!(most % PAGE, 0);
    }
}
