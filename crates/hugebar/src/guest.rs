//! Guest addresses: the leaves that KVM and an IOMMU can have for a mapped region, and the
//! addresses with the fewest.
//!
//! A virtual machine monitor gives a region to its guest in memory slots ([`Slot`]), at a guest address
//! (GPA) of its choice. KVM then maps a block by a leaf of size `S` exactly if GPA ≡ HVA (mod `S`), the
//! block lies whole in one slot, and the process itself maps it by a leaf of at least `S`, for which
//! HVA ≡ HPA (`arch/x86/kvm`: `kvm_alloc_memslot_metadata`, `host_pfn_mapping_level`). The IOMMU does
//! not use the HVA: it takes the largest page to which both I/O address and HPA are aligned. So a guest address
//! that is congruent with the HPA is best for both.

use alloc::vec::Vec;

use crate::layout::Area;
use crate::leaf::{self, LeafSizes, Leaves};
use crate::phys::Phys;

/// A part of a region at contiguous addresses, registered as one memory slot of a guest or
/// mapped for DMA in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The part of the region, in whole pages.
    pub area: Area,
    /// The address of its first byte in this process (HVA).
    pub address: u64,
}

/// The page table that maps slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// The second stage of a guest's address translation (KVM), by guest address.
    SecondStage,
    /// The IOMMU, by I/O address.
    Iommu,
}

/// The slots of one region, to compare guest and I/O addresses.
///
/// Addresses are those of region offset 0, mapped or not; a slot lies at its offset from
/// there.
///
/// ```
/// use hugebar::{guest::{Fit, Slot, Table}, layout::Area, leaf::{LeafSizes, GIB, MIB}, phys::Phys};
/// let slot = Slot { area: Area::new(0, 4 * GIB), address: 0x7f00_4000_0000 };
/// let fit = Fit::new(&[slot], Phys::Natural, &LeafSizes::X86_64);
/// assert_eq!(fit.leaves(Table::SecondStage, 64 * GIB).total(), 4);
/// assert_eq!(fit.leaves(Table::SecondStage, 64 * GIB + 2 * MIB).total(), 2048);
/// let better = fit.better(Table::SecondStage, 64 * GIB + 2 * MIB).unwrap();
/// assert_eq!((better.below, better.above), (Some(64 * GIB), Some(65 * GIB)));
/// ```
#[derive(Clone, Debug)]
pub struct Fit {
    slots: Vec<Slot>,
    phys: Phys,
    sizes: LeafSizes,
}

/// The addresses with the fewest leaves: those that are [`Congruence::residue`] modulo
/// [`Congruence::alignment`].
///
/// # Invariants
///
/// The alignment is a leaf size, so a power of two, and the residue less than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Congruence {
    alignment: u64,
    residue: u64,
}

impl Congruence {
    /// The modulus: a leaf size in bytes.
    pub fn alignment(self) -> u64 {
        self.alignment
    }

    /// The residue, less than the alignment.
    pub fn residue(self) -> u64 {
        self.residue
    }

    /// The nearest such address at or below `address`, or `None` if there is none.
    pub fn below(self, address: u64) -> Option<u64> {
        address.checked_sub(address.wrapping_sub(self.residue) & (self.alignment - 1))
    }

    /// The nearest such address at or above `address`, or `None` if there is none below 2^64.
    pub fn above(self, address: u64) -> Option<u64> {
        address.checked_add(self.residue.wrapping_sub(address) & (self.alignment - 1))
    }
}

/// The nearest addresses that have the fewest leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Better {
    /// The nearest lower one, if there is one.
    pub below: Option<u64>,
    /// The nearest higher one, if there is one.
    pub above: Option<u64>,
}

impl Fit {
    /// Takes the slots of one region ([`crate::mem::Mapping::slots`]), what is known about its physical
    /// addresses, and the leaf sizes of process and guest, or of the IOMMU.
    pub fn new(slots: &[Slot], phys: Phys, sizes: &LeafSizes) -> Self {
        Self {
            slots: slots.to_vec(),
            phys,
            sizes: *sizes,
        }
    }

    /// The leaves that all slots get, fully populated, with region offset 0 at `address`.
    ///
    /// An address inside a page is rounded down, because slots start at pages. Assumes that process and KVM
    /// use the largest possible leaves; [`crate::census`] counts the leaves that the process has.
    pub fn leaves(&self, table: Table, address: u64) -> Leaves {
        let page = self.sizes.base();
        let address = address / page * page;
        let mut leaves = Leaves::none(&self.sizes);
        for slot in &self.slots {
            // Wrapping around at 64 bits keeps the congruence.
            let start = address.wrapping_add(slot.area.offset);
            let sizes = match table {
                Table::SecondStage => self.shared(start, slot.address),
                Table::Iommu => self.sizes,
            };
            let hpa = self.phys.behind(slot.area.offset);
            leaves.add_all(&leaf::leaves(start, hpa, slot.area.size, &sizes));
        }
        leaves
    }

    /// The sizes modulo which two addresses are congruent.
    fn shared(&self, one: u64, other: u64) -> LeafSizes {
        let common = (one ^ other).trailing_zeros().min(63);
        let sizes = self.sizes.below((1 << common) + 1);
        sizes.unwrap_or(self.sizes.only_base())
    }

    /// The fewest leaves at any address.
    pub fn best(&self, table: Table) -> Leaves {
        self.leaves(table, self.phys.behind(0))
    }

    /// The addresses of region offset 0 with the fewest leaves, for an allocator of guest
    /// addresses.
    ///
    /// The alignment is no larger than useful: a region without room for a 1 GiB leaf need not be aligned
    /// to 1 GiB. The best addresses for the IOMMU are also best for the second stage.
    pub fn wanted(&self, table: Table) -> Congruence {
        let hpa = self.phys.behind(0);
        let best = self.leaves(table, hpa);
        // The leaves depend only on the largest size modulo which the address is congruent with
        // the HPA: without congruence with HVA and HPA there is no leaf of that size.
        let enough = |size: &u64| {
            // Congruent modulo this size, and no larger one.
            let address = hpa.wrapping_add(*size);
            let as_few = || best.is_exact() && self.leaves(table, address).total() == best.total();
            *size == self.sizes.largest() || as_few()
        };
        let size = self.sizes.as_slice().iter().copied().find(enough);
        let alignment = size.unwrap_or(self.sizes.largest());
        Congruence {
            alignment,
            residue: hpa % alignment,
        }
    }

    /// The nearest addresses with the fewest leaves, or `None` if `address` already has
    /// the fewest.
    pub fn better(&self, table: Table, address: u64) -> Option<Better> {
        let wanted = self.wanted(table);
        let (below, above) = (wanted.below(address), wanted.above(address));
        (below != Some(address)).then_some(Better { below, above })
    }

    /// The slots.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }
}
