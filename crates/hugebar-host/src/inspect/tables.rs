//! What the size of a process's page tables (`VmPTE`) says of its leaves. Reading it disturbs nothing.
//!
//! It is the size of PTE, PMD and PUD tables, whole ones, of all mappings together. So it can tell two things. What all
//! other mappings could need at most, and those of devices with the leaves that they can have, is a bound: tables
//! beyond it are of smaller leaves. And a mapping that is populated in base pages throughout has all of its PTE tables:
//! fewer than these, and it is not.
//!
//! Tables do not outlive the mappings that they lie in (`free_pgtables`), and where a PTE table is left the kernel
//! installs no larger leaf. What a mapping needs is taken from its length, whatever of it is populated.

use std::env::consts::ARCH;
use std::io;
use std::ops::Range;

use hugebar::facts::Status;
use hugebar::leaf::{self, LeafSizes};

/// Levels whose tables the kernel counts. Where a level is folded it has none, which a bound may leave unsaid.
const LEVELS: usize = 3;

/// Tables that lie in no mapping: x86 with page-table isolation maps a process's LDT (`map_ldt_struct`), which is less
/// than one table of each level covers.
const ELSEWHERE: u64 = LEVELS as u64;

/// How often a process is looked at again that changes its mappings meanwhile.
const TRIES: usize = 4;

/// Where user addresses end on all architectures; behind it `maps` shows x86's vsyscall page, which is the kernel's.
const USER_END: u64 = 1 << 63;

/// The most page tables that mappings can need, in bytes, and how long they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    page: u64,
    /// Bytes of tables.
    tables: u64,
    /// Bytes mapped.
    mapped: u64,
    /// The last table of each level, which the next mapping may share.
    last: [Option<u64>; LEVELS],
}

impl Footprint {
    /// Of nothing, on a machine with such pages.
    pub(crate) fn new(page: u64) -> Self {
        Self {
            page,
            tables: 0,
            mapped: 0,
            last: [None; LEVELS],
        }
    }

    /// Adds a mapping; in the order of their addresses none is counted twice.
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

/// The bytes that a table of a level covers; a table is a page of entries of 8 bytes.
fn cover(page: u64, level: usize) -> u64 {
    (0..=level).fold(page, |size, _| size.saturating_mul(page / 8))
}

/// The tables of each level that a range lies in, from a level upwards, in bytes.
fn tables(range: &Range<u64>, lowest: usize, page: u64) -> u64 {
    let count = |level| {
        let cover = cover(page, level);
        (range.end - 1) / cover - range.start / cover + 1
    };
    let counts = (lowest..LEVELS).map(count).fold(0, u64::saturating_add);
    counts.saturating_mul(page)
}

/// Bytes of page tables that a mapping of `[hva, hva + size)` needs with the leaves that the rule gives it
/// ([`leaf::runs`]). With those of a single size, the base page, that is what it has once it is populated throughout.
pub(crate) fn needed(hva: u64, hpa: u64, size: u64, sizes: &LeafSizes) -> u64 {
    let of_run = |run: leaf::Run| {
        // Addresses of processes are below 2^63, so that nothing wraps around.
        let bytes = u64::try_from(run.bytes()).unwrap_or(u64::MAX);
        let range = run.start..run.start.saturating_add(bytes);
        // A leaf is an entry of a table of its level; those below it are not there.
        let level = sizes.as_slice().iter().position(|&size| size == run.size);
        tables(&range, level.unwrap_or(0), sizes.base())
    };
    leaf::runs(hva, hpa, size, sizes)
        .map(of_run)
        .fold(0, u64::saturating_add)
}

/// What a process's page tables were while it was looked at, and what its other mappings can need of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// The smaller of two sizes, from before and after its mappings were read.
    least: u64,
    /// The larger one.
    most: u64,
    /// The most that its mappings of anything but devices can need.
    others: u64,
}

impl Observed {
    /// By its `status` before and after its mappings were read. `None` where they are not all that it had then, which
    /// their length tells (`VmSize`), or on an architecture where tables are not known to be like that.
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

    /// Bytes of its tables; the least that was seen.
    pub(crate) fn least(&self) -> u64 {
        self.least
    }

    /// The most that its mappings can need, where those of devices need `devices`.
    pub(crate) fn bound(&self, page: u64, devices: u64) -> u64 {
        let elsewhere = page.saturating_mul(ELSEWHERE);
        self.others
            .saturating_add(devices)
            .saturating_add(elsewhere)
    }

    /// Whether there are more.
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

/// Whether tables of an architecture are pages of entries of 8 bytes, and a leaf of device memory has none set aside
/// for the time when it is split (as powerpc has: `arch_needs_pgtable_deposit`).
fn is_known(architecture: &str) -> bool {
    matches!(architecture, "x86_64" | "aarch64")
}

/// Reads the mappings of a process between two looks at its `status`, again where it has changed them meanwhile.
/// `read` gives those of devices, and adds the others to a footprint; `length` is how long those of devices are.
///
/// Returns what `read` gave, the last `status`, and what is known of the page tables.
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
        // Without a device there is nothing to judge.
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
        // It reaches into a second PTE table, a second PMD table.
        assert_eq!(tables(&[(BASE + PAGE, BASE + 2 * MIB + PAGE)]), 4);
        assert_eq!(tables(&[(BASE + GIB - PAGE, BASE + GIB + PAGE)]), 5);
        assert_eq!(tables(&[(BASE, BASE + 4 * GIB)]), 2048 + 4 + 1);
        // Neighbours share tables, those in other parts do not.
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
        // Measured on Linux: nothing for leaves of 1 GiB, 16 KiB for those of 2 MiB, beside the PUD table.
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
        // It was less meanwhile.
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
        // Without a device one look is enough.
        let read = |_: &mut Footprint| Ok(());
        let (_, _, observed) = observe(PAGE, || Ok(status(PAGE, PAGE)), read, |()| 0).unwrap();
        assert_eq!(observed, None);
    }

    #[test]
    fn not_every_architecture_has_such_tables() {
        assert!(is_known("x86_64") && is_known("aarch64"));
        // A leaf has a table set aside; tables are smaller than a page.
        assert!(!is_known("powerpc64") && !is_known("s390x"));
    }

    /// This process's own mappings can need what it has.
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
        // Other tests map and unmap meanwhile.
        let complete = (0..1000).find_map(|_| {
            let before = Status::own().unwrap();
            let all = mappings();
            Observed::new(&before, &Status::own().unwrap(), &all, 0)
        });
        let complete = complete.expect("VmSize is the length of all mappings");
        assert!(!complete.exceed(page, 0), "{complete:?}");
    }

    /// Whatever the leaves are, a mapping needs no more than in base pages but for the tables that its runs share, and
    /// base pages need as many as a footprint has.
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
