//! Leaves: how many of each size an address range has.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use hugebar::facts::{self, Facts};
use hugebar::leaf::{self, LeafSizes, Leaves};

use crate::argument::{answer, invalid, required};
use crate::error::Result;

/// The room for leaf sizes in this interface. Today's machines use up to three.
pub const HUGEBAR_MAX_LEAF_SIZES: usize = 8;

/// Sizes that a page-table leaf can have: powers of two in bytes, ascending. The first is the page.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_leaf_sizes {
    /// How many of `sizes` are used.
    pub count: u32,
    /// The sizes in bytes.
    pub sizes: [u64; HUGEBAR_MAX_LEAF_SIZES],
}

/// How many leaves of each size there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct hugebar_leaves {
    /// How many of `sizes` and `counts` are used.
    pub count: u32,
    /// The sizes in bytes, ascending.
    pub sizes: [u64; HUGEBAR_MAX_LEAF_SIZES],
    /// How many leaves of each size.
    pub counts: [u64; HUGEBAR_MAX_LEAF_SIZES],
}

/// No leaves.
pub(crate) const NONE: hugebar_leaves = hugebar_leaves {
    count: 0,
    sizes: [0; HUGEBAR_MAX_LEAF_SIZES],
    counts: [0; HUGEBAR_MAX_LEAF_SIZES],
};

impl From<&LeafSizes> for hugebar_leaf_sizes {
    fn from(own: &LeafSizes) -> Self {
        let mut sizes = [0; HUGEBAR_MAX_LEAF_SIZES];
        let mut count = 0;
        for (place, &size) in sizes.iter_mut().zip(own.as_slice()) {
            *place = size;
            count += 1;
        }
        Self { count, sizes }
    }
}

impl From<&Leaves> for hugebar_leaves {
    fn from(own: &Leaves) -> Self {
        let mut leaves = NONE;
        let places = leaves.sizes.iter_mut().zip(&mut leaves.counts);
        for ((size, count), (own_size, own_count)) in places.zip(own.iter()) {
            (*size, *count) = (own_size, own_count);
            leaves.count += 1;
        }
        leaves
    }
}

/// The sizes that a caller gives; null for those of this machine.
pub(crate) fn sizes(given: Option<&hugebar_leaf_sizes>) -> Result<LeafSizes> {
    let Some(given) = given else {
        return Ok(facts::leaf_sizes());
    };
    let used = usize::try_from(given.count).ok();
    let used = used.and_then(|count| given.sizes.get(..count));
    let sizes = used.and_then(LeafSizes::new);
    sizes.ok_or_else(|| invalid("leaf sizes must be one to three ascending powers of two"))
}

/// Returns the leaf sizes of this machine.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_machine_leaf_sizes(
    sizes: Option<&mut MaybeUninit<hugebar_leaf_sizes>>,
) -> c_int {
    answer(sizes, || Ok((&facts::leaf_sizes()).into()))
}

/// Returns the leaf sizes that this kernel uses for device memory: only pages before Linux 6.12.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_kernel_leaf_sizes(
    sizes: Option<&mut MaybeUninit<hugebar_leaf_sizes>>,
) -> c_int {
    answer(sizes, || Ok((&Facts::observe().device_leaf_sizes()).into()))
}

/// Computes the leaves of `bytes` bytes that are mapped at the virtual address `virtual_address` and lie at the physical
/// address `physical`. The range is rounded out to whole pages. `sizes` may be NULL for those of this machine.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_leaves_at(
    virtual_address: u64,
    physical: u64,
    bytes: u64,
    sizes: Option<&hugebar_leaf_sizes>,
    leaves: Option<&mut MaybeUninit<hugebar_leaves>>,
) -> c_int {
    answer(leaves, || {
        let sizes = self::sizes(sizes)?;
        Ok((&leaf::leaves(virtual_address, physical, bytes, &sizes)).into())
    })
}

/// Returns the largest leaf size modulo which two addresses are congruent, such as a virtual and a physical one; 0 if they
/// are not even at the same place in a page. Only such a pair can be mapped by leaves of that size. `sizes` may be NULL for
/// those of this machine.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_congruence(
    one_address: u64,
    other_address: u64,
    sizes: Option<&hugebar_leaf_sizes>,
    largest: Option<&mut MaybeUninit<u64>>,
) -> c_int {
    answer(largest, || {
        let sizes = self::sizes(sizes)?;
        let apart = one_address ^ other_address;
        let mut descending = sizes.as_slice().iter().rev();
        let fitting = descending.find(|&&size| apart & (size - 1) == 0);
        Ok(fitting.copied().unwrap_or(0))
    })
}

/// Returns how many leaves there are, of all sizes.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_leaves_total(
    leaves: Option<&hugebar_leaves>,
    total: Option<&mut MaybeUninit<u64>>,
) -> c_int {
    answer(total, || {
        let leaves = required(leaves)?;
        let used = usize::try_from(leaves.count).ok();
        let counts = used.and_then(|count| leaves.counts.get(..count));
        let counts =
            counts.ok_or_else(|| invalid("there are more leaf sizes than room for them"))?;
        Ok(counts
            .iter()
            .fold(0, |sum, &count| sum.saturating_add(count)))
    })
}
