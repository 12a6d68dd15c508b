//! Leaves: the page-table entries that a mapping gets, by the kernel's rule.
//!
//! A *leaf* is one page-table entry that maps memory. Since Linux 6.12 `vfio-pci` tries the
//! largest leaf first: it installs a leaf of size `S` at an address exactly if the
//! `S`-aligned block around it lies whole in the mapping and its physical address is also a multiple of
//! `S` (`drivers/vfio/pci/vfio_pci_core.c`, `vfio_pci_mmap_huge_fault`). Only [`runs`] implements this
//! rule; everything else adds up its results.

use core::fmt;

/// 1 KiB in bytes.
pub const KIB: u64 = 1 << 10;
/// 1 MiB in bytes.
pub const MIB: u64 = 1 << 20;
/// 1 GiB in bytes.
pub const GIB: u64 = 1 << 30;

/// The sizes that a leaf can have on a machine, in bytes, smallest first.
///
/// # Invariants
///
/// One to [`LeafSizes::MAX`] sizes, each a power of two, strictly ascending.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeafSizes {
    sizes: [u64; LeafSizes::MAX],
    len: usize,
}

impl LeafSizes {
    /// How many page-table levels can hold a leaf: PTE, PMD and PUD.
    pub const MAX: usize = 3;

    /// x86-64 with 1 GiB pages (CPU flag `pdpe1gb`): 4 KiB, 2 MiB, 1 GiB.
    pub const X86_64: Self = Self::from_array([4 * KIB, 2 * MIB, GIB], 3);
    /// arm64 with 4 KiB pages: 4 KiB, 2 MiB. Linux has no PUD leaf for its device memory.
    pub const ARM64_4K: Self = Self::from_array([4 * KIB, 2 * MIB, 0], 2);
    /// arm64 with 16 KiB pages: 16 KiB, 32 MiB.
    pub const ARM64_16K: Self = Self::from_array([16 * KIB, 32 * MIB, 0], 2);
    /// arm64 with 64 KiB pages: 64 KiB, 512 MiB.
    pub const ARM64_64K: Self = Self::from_array([64 * KIB, 512 * MIB, 0], 2);

    const fn from_array(sizes: [u64; Self::MAX], len: usize) -> Self {
        Self { sizes, len }
    }

    /// A set of sizes, or `None` unless they are one to [`LeafSizes::MAX`] ascending powers of two.
    ///
    /// ```
    /// use hugebar::leaf::LeafSizes;
    /// assert_eq!(LeafSizes::new(&[4096, 2 << 20, 1 << 30]), Some(LeafSizes::X86_64));
    /// assert_eq!(LeafSizes::new(&[4096, 5000]), None);
    /// ```
    pub fn new(sizes: &[u64]) -> Option<Self> {
        let ascending = sizes.windows(2).all(|pair| pair[0] < pair[1]);
        let valid = sizes.iter().all(|size| size.is_power_of_two());
        if sizes.is_empty() || sizes.len() > Self::MAX || !ascending || !valid {
            return None;
        }
        let mut array = [0; Self::MAX];
        array[..sizes.len()].copy_from_slice(sizes);
        Some(Self::from_array(array, sizes.len()))
    }

    /// The sizes, smallest first.
    pub fn as_slice(&self) -> &[u64] {
        self.sizes.get(..self.len).unwrap_or(&self.sizes)
    }

    /// The smallest size: the base page.
    pub fn base(&self) -> u64 {
        self.sizes[0]
    }

    /// The largest size.
    pub fn largest(&self) -> u64 {
        self.sizes[self.len - 1]
    }

    /// Only the base page: what a kernel before 6.12 has for device memory.
    pub fn only_base(&self) -> Self {
        Self::from_array([self.base(), 0, 0], 1)
    }

    /// These sizes and the next one, for which the page tables have a level but no leaves: the PUD of
    /// arm64 and of x86-64 without `pdpe1gb`. `None` if there is no such level, or the
    /// page is too small for a table.
    ///
    /// ```
    /// use hugebar::leaf::{GIB, LeafSizes};
    /// let missing = LeafSizes::ARM64_4K.missing();
    /// assert_eq!(missing.map(|sizes| sizes.largest()), Some(GIB));
    /// assert_eq!(LeafSizes::X86_64.missing(), None);
    /// ```
    pub fn missing(&self) -> Option<Self> {
        // A table is a page of 8-byte entries.
        let next = self.largest().checked_mul(self.base() / 8)?;
        if next <= self.largest() {
            return None;
        }
        let mut sizes = self.sizes;
        *sizes.get_mut(self.len)? = next;
        Some(Self::from_array(sizes, self.len + 1))
    }

    /// The sizes below `size`, or `None` if there are none.
    pub fn below(&self, size: u64) -> Option<Self> {
        let len = self.as_slice().iter().filter(|&&own| own < size).count();
        let mut array = [0; Self::MAX];
        array[..len].copy_from_slice(&self.sizes[..len]);
        (len > 0).then_some(Self::from_array(array, len))
    }
}

impl fmt::Debug for LeafSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// Adjacent leaves of one size. Addresses wrap around at 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Address of the first leaf.
    pub start: u64,
    /// Size of each leaf in bytes.
    pub size: u64,
    /// The number of leaves.
    pub count: u64,
}

impl Run {
    /// Bytes that the run covers.
    pub fn bytes(&self) -> u128 {
        u128::from(self.size) * u128::from(self.count)
    }
}

/// The iterator of [`runs`], in the order of addresses.
#[derive(Clone, Debug)]
pub struct Runs {
    // Sizes ascend to the largest that fits and descend again.
    runs: [Option<Run>; 2 * LeafSizes::MAX - 1],
    next: usize,
}

impl Iterator for Runs {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        while let Some(slot) = self.runs.get(self.next) {
            self.next += 1;
            if slot.is_some() {
                return *slot;
            }
        }
        None
    }
}

/// The leaves that one mapping of `[hva, hva + len)` gets when every byte of it is touched, as
/// runs in the order of their addresses.
///
/// `hpa` is the physical address behind `hva`, or any number congruent with it modulo the largest
/// size, such as the region offset in a naturally aligned BAR. The mapping is assumed to be one VMA,
/// rounded out to whole pages as by `mmap`. Addresses beyond 64 bits wrap around
/// to 0, which keeps the congruence.
///
/// ```
/// use hugebar::leaf::{runs, LeafSizes, Run, GIB, KIB, MIB};
/// // 1 GiB + 4 KiB, starting one page below a 1 GiB boundary.
/// let list: Vec<Run> = runs(3 * GIB - 4 * KIB, GIB - 4 * KIB, GIB + 4 * KIB, &LeafSizes::X86_64).collect();
/// assert_eq!(list, [
///     Run { start: 3 * GIB - 4 * KIB, size: 4 * KIB, count: 1 },
///     Run { start: 3 * GIB, size: GIB, count: 1 },
/// ]);
/// ```
pub fn runs(hva: u64, hpa: u64, len: u64, sizes: &LeafSizes) -> Runs {
    let mut runs = [None; 2 * LeafSizes::MAX - 1];
    let levels = sizes.as_slice();
    let base = sizes.base();
    // 128 bits, for mappings that end at the top of the address space or wrap around.
    let mut low = round_down(u128::from(hva), base);
    let mut high = round_up(u128::from(hva) + u128::from(len), base);
    if len == 0 {
        high = low;
    }
    for (level, &size) in levels.iter().enumerate() {
        // The part for the next size: congruent, and whole blocks only. Larger blocks consist of
        // smaller ones, so each level leaves at most a head and a tail.
        let (inner_low, inner_high) = levels
            .get(level + 1)
            .filter(|&&next| (hva ^ hpa) & (next - 1) == 0)
            .map(|&next| (round_up(low, next), round_down(high, next)))
            .filter(|(inner_low, inner_high)| inner_low < inner_high)
            .unwrap_or((high, high));
        runs[level] = run(low, inner_low, size);
        if inner_low == inner_high {
            break;
        }
        runs[2 * (LeafSizes::MAX - 1) - level] = run(inner_high, high, size);
        (low, high) = (inner_low, inner_high);
    }
    Runs { runs, next: 0 }
}

// Sizes are powers of two: without divisions nothing here can panic, which crates/hugebar-preload relies on.
fn round_down(address: u128, size: u64) -> u128 {
    address & !u128::from(size - 1)
}

fn round_up(address: u128, size: u64) -> u128 {
    round_down(address + u128::from(size - 1), size)
}

fn run(low: u128, high: u128, size: u64) -> Option<Run> {
    let count = u64::try_from((high - low) >> size.trailing_zeros()).ok()?;
    // The lower 64 bits: the address after wrapping around, as it is below twice 2^64.
    let start = u64::try_from(low & u128::from(u64::MAX)).ok()?;
    (count > 0).then_some(Run { start, size, count })
}

/// Counts the leaves of [`runs`], by size.
///
/// ```
/// use hugebar::leaf::{leaves, LeafSizes, GIB};
/// let congruent = leaves(8 * GIB, 0, 4 * GIB, &LeafSizes::X86_64);
/// assert_eq!((congruent.count(GIB), congruent.total()), (4, 4));
/// let unlucky = leaves(8 * GIB + 4096, 0, 4 * GIB, &LeafSizes::X86_64);
/// assert_eq!(unlucky.total(), 1_048_576);
/// ```
pub fn leaves(hva: u64, hpa: u64, len: u64, sizes: &LeafSizes) -> Leaves {
    let mut leaves = Leaves::none(sizes);
    for run in runs(hva, hpa, len, sizes) {
        leaves.add(run.size, run.count);
    }
    leaves
}

/// Numbers of leaves, by size.
///
/// Counts saturate at `u64::MAX`, and are then no longer exact ([`Leaves::is_exact`]).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Leaves {
    sizes: LeafSizes,
    counts: [u64; LeafSizes::MAX],
}

impl Leaves {
    /// No leaf of any of `sizes`.
    pub fn none(sizes: &LeafSizes) -> Self {
        Self {
            sizes: *sizes,
            counts: [0; LeafSizes::MAX],
        }
    }

    /// Adds `count` leaves of `size`; ignores a size that is not in the set.
    pub fn add(&mut self, size: u64, count: u64) {
        if let Some(level) = self.sizes.as_slice().iter().position(|&own| own == size) {
            self.counts[level] = self.counts[level].saturating_add(count);
        }
    }

    /// Adds all leaves of `other`.
    pub fn add_all(&mut self, other: &Leaves) {
        for (size, count) in other.iter() {
            self.add(size, count);
        }
    }

    /// The same counts over another set of sizes, if that has every size of this one.
    pub(crate) fn over(&self, sizes: &LeafSizes) -> Option<Self> {
        let known = |size| sizes.as_slice().contains(size);
        let mut leaves = Self::none(sizes);
        leaves.add_all(self);
        self.sizes.as_slice().iter().all(known).then_some(leaves)
    }

    /// How many leaves have `size`.
    pub fn count(&self, size: u64) -> u64 {
        self.iter()
            .find_map(|(own, count)| (own == size).then_some(count))
            .unwrap_or(0)
    }

    /// The number of leaves of all sizes, which is the number of page faults that they cost; saturates at
    /// `u64::MAX`.
    pub fn total(&self) -> u64 {
        let counts = self.iter().map(|(_, count)| count);
        counts.fold(0, u64::saturating_add)
    }

    /// Whether the counts and their total are exact: none has reached `u64::MAX`, where
    /// counting saturates.
    ///
    /// ```
    /// use hugebar::leaf::{LeafSizes, Leaves, KIB};
    /// let mut leaves = Leaves::none(&LeafSizes::X86_64);
    /// leaves.add(4 * KIB, u64::MAX - 1);
    /// assert!(leaves.is_exact());
    /// leaves.add(4 * KIB, 2);
    /// assert!(!leaves.is_exact());
    /// ```
    pub fn is_exact(&self) -> bool {
        self.total() < u64::MAX
    }

    /// Bytes under leaves of at least `size`.
    pub fn bytes_at_least(&self, size: u64) -> u128 {
        self.iter()
            .filter(|&(own, _)| own >= size)
            .map(|(own, count)| u128::from(own) * u128::from(count))
            .sum()
    }

    /// Bytes under all leaves.
    pub fn bytes(&self) -> u128 {
        self.bytes_at_least(0)
    }

    /// Sizes and their counts, smallest size first, including sizes without leaves.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.sizes
            .as_slice()
            .iter()
            .copied()
            .zip(self.counts.iter().copied())
    }

    /// The set of sizes.
    pub fn sizes(&self) -> &LeafSizes {
        &self.sizes
    }
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// `3 × 1 GiB + 511 × 2 MiB + 511 × 4 KiB`, or `none`.
impl fmt::Display for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (size, count) in self.iter().rev().filter(|&(_, count)| count > 0) {
            if !first {
                f.write_str(" + ")?;
            }
            first = false;
            write!(f, "{count} × {}", Bytes(size))?;
        }
        if first { f.write_str("none") } else { Ok(()) }
    }
}

/// A map from size in bytes to count: `{"4096": 0, "2097152": 0, "1073741824": 4}`.
#[cfg(feature = "serde")]
impl serde::Serialize for Leaves {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// Shows a number of bytes in the largest binary unit that divides it: `2 MiB`, `24 KiB`, `7 B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let exact = units
            .iter()
            .find(|(shift, _)| self.0 != 0 && self.0.trailing_zeros() >= *shift);
        match exact {
            Some((shift, unit)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{} B", self.0),
        }
    }
}
