//! Plans: where a region's areas should lie, and the leaves that they can have there.
//!
//! A plan is pure arithmetic. It says how long a *window* of addresses must be, how it must be
//! aligned, and where in it each area goes; [`crate::mem::Window`] then reserves such addresses.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::layout::{Area, Layout, LayoutError};
use crate::leaf::{self, GIB, LeafSizes, Leaves};
use crate::phys::Phys;

/// How to choose addresses for a region's areas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Placement {
    /// One window for the whole region, congruent with its physical addresses: no other
    /// addresses give fewer leaves.
    #[default]
    Congruent,
    /// Each area by itself at a multiple of `min(size & -size, 1 GiB)`: the rule of QEMU 9.2 to
    /// 10.2 (`vfio_region_mmap`), which is as good only for whole BARs.
    SizeAligned,
    /// Each area wherever `mmap(NULL)` puts it, as in most programs.
    Plain,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Congruent => "congruent",
            Self::SizeAligned => "size-aligned",
            Self::Plain => "plain",
        })
    }
}

/// The addresses that one reservation must have ([`Plan::shapes`]).
///
/// # Invariants
///
/// The alignment is a power of two, and the residue less than that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    length: u64,
    alignment: u64,
    residue: u64,
    origin: u64,
    areas: Range<usize>,
}

impl Shape {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The start is [`Shape::residue`] modulo this power of two.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// The start address modulo [`Shape::alignment`].
    pub fn residue(&self) -> u64 {
        self.residue
    }

    /// Region offset of the first byte.
    pub fn origin(&self) -> u64 {
        self.origin
    }

    /// The indices of the layout's areas that lie in it ([`Layout::areas`]).
    pub fn areas(&self) -> Range<usize> {
        self.areas.clone()
    }

    /// The lowest fitting start at or above `address`, or `None` if there is none below 2^64.
    ///
    /// ```
    /// use hugebar::{layout::Layout, leaf::{LeafSizes, MIB}, phys::Phys, plan::{Placement, Plan}};
    /// let layout = Layout::whole(64 * MIB, 4096)?;
    /// let plan = Plan::new(&layout, Phys::At(0x7000), &LeafSizes::X86_64, Placement::Congruent)?;
    /// assert_eq!(plan.shapes()[0].start_from(0x7001), Some(0x20_7000));
    /// # Ok::<(), hugebar::layout::LayoutError>(())
    /// ```
    pub fn start_from(&self, address: u64) -> Option<u64> {
        let ahead = self.residue.wrapping_sub(address) & (self.alignment - 1);
        address.checked_add(ahead)
    }

    /// How many bytes to reserve to be certain of a fitting start: at most
    /// `length + alignment`, or `None` if that exceeds 64 bits.
    pub fn reservation(&self) -> Option<u64> {
        self.length.checked_add(self.alignment)
    }
}

/// Where the areas of a layout should lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    layout: Layout,
    phys: Phys,
    sizes: LeafSizes,
    placement: Placement,
    shapes: Vec<Shape>,
}

impl Plan {
    /// Plans the addresses for a layout.
    ///
    /// `sizes` are the machine's leaf sizes ([`crate::facts::Facts::leaf_sizes`]).
    ///
    /// ```
    /// use hugebar::{layout::{Area, Layout}, leaf::{LeafSizes, GIB}, phys::Phys, plan::{Placement, Plan}};
    /// let layout = Layout::whole(4 * GIB, 4096)?.without(Area::new(0x6000, 0x1000))?;
    /// let plan = Plan::new(&layout, Phys::Natural, &LeafSizes::X86_64, Placement::Congruent)?;
    /// assert_eq!((plan.shapes()[0].length(), plan.shapes()[0].alignment()), (4 * GIB, GIB));
    /// assert_eq!(plan.best().to_string(), "3 × 1 GiB + 511 × 2 MiB + 511 × 4 KiB");
    /// # Ok::<(), hugebar::layout::LayoutError>(())
    /// ```
    pub fn new(
        layout: &Layout,
        phys: Phys,
        sizes: &LeafSizes,
        placement: Placement,
    ) -> Result<Self, LayoutError> {
        if sizes.base() != layout.page() {
            return Err(LayoutError::OtherPage {
                leaf: sizes.base(),
                layout: layout.page(),
            });
        }
        if phys.behind(0) % layout.page() != 0 {
            return Err(LayoutError::PhysUnaligned(phys.behind(0)));
        }
        let mut plan = Self {
            layout: layout.clone(),
            phys,
            sizes: *sizes,
            placement,
            shapes: Vec::new(),
        };
        plan.shapes = match placement {
            Placement::Congruent => plan.congruent().into_iter().collect(),
            Placement::SizeAligned => plan.by_area(|area| natural_alignment(area.size).min(GIB)),
            Placement::Plain => plan.by_area(|_| plan.layout.page()),
        };
        Ok(plan)
    }

    /// One window for all areas, aligned to the largest leaf that fits in any of them.
    fn congruent(&self) -> Option<Shape> {
        let alignment = self
            .best()
            .iter()
            .rev()
            .find_map(|(size, count)| (count > 0).then_some(size))?;
        Some(Shape {
            length: self.layout.span(),
            alignment,
            residue: self.phys.behind(0) % alignment,
            origin: 0,
            areas: 0..self.layout.areas().len(),
        })
    }

    fn by_area(&self, alignment: impl Fn(&Area) -> u64) -> Vec<Shape> {
        let shape = |(index, area): (usize, &Area)| Shape {
            length: area.size,
            alignment: alignment(area),
            residue: 0,
            origin: area.offset,
            areas: index..index + 1,
        };
        self.layout.areas().iter().enumerate().map(shape).collect()
    }

    /// The same plan with windows aligned only to the next smaller leaf, for scarce address
    /// space; `None` if they are only page-aligned already, or the placement allows no other alignment.
    pub fn relaxed(&self) -> Option<Self> {
        let shape = match (self.placement, self.shapes.as_slice()) {
            (Placement::Congruent, [shape]) => shape,
            _ => return None,
        };
        let alignment = self.sizes.below(shape.alignment)?.largest();
        let relaxed = Shape {
            alignment,
            residue: shape.residue % alignment,
            ..shape.clone()
        };
        Some(Self {
            shapes: Vec::from([relaxed]),
            ..self.clone()
        })
    }

    /// The fewest leaves at any addresses: those with HVA and HPA congruent
    /// modulo every size.
    pub fn best(&self) -> Leaves {
        self.sum(&self.sizes, |area| self.phys.behind(area.offset))
    }

    /// The leaves of the given sizes if each area lies at the address that `address` returns.
    pub(crate) fn sum(&self, sizes: &LeafSizes, mut address: impl FnMut(&Area) -> u64) -> Leaves {
        let mut leaves = Leaves::none(sizes);
        for area in self.layout.areas() {
            let hpa = self.phys.behind(area.offset);
            leaves.add_all(&leaf::leaves(address(area), hpa, area.size, sizes));
        }
        leaves
    }

    /// The addresses to reserve: one window for [`Placement::Congruent`], one for each area
    /// otherwise, none if nothing can be mapped.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// The planned layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What is known about the physical addresses.
    pub fn phys(&self) -> Phys {
        self.phys
    }

    /// The leaf sizes that the plan assumes.
    pub fn sizes(&self) -> &LeafSizes {
        &self.sizes
    }

    /// How the addresses are chosen.
    pub fn placement(&self) -> Placement {
        self.placement
    }
}

/// The largest power of two that divides `size`: `size & -size`.
fn natural_alignment(size: u64) -> u64 {
    1 << size.trailing_zeros().min(62)
}
