//! Layouts: which parts of a region can be mapped.

use alloc::vec::Vec;
use core::fmt;

use crate::leaf::Bytes;

/// A part of a region, in bytes from the region's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Area {
    /// Where the area starts in the region.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
}

impl Area {
    /// An area of `size` bytes at `offset`.
    pub const fn new(offset: u64, size: u64) -> Self {
        Self { offset, size }
    }

    /// The part of it that lies in a region of `size` bytes, if any. MSI-X tables that a virtual
    /// machine monitor has moved can reach beyond their BAR or lie outside it.
    ///
    /// ```
    /// use hugebar::layout::Area;
    /// assert_eq!(Area::new(0x3000, 0x4000).clamped(0x4000), Some(Area::new(0x3000, 0x1000)));
    /// assert_eq!(Area::new(0x4000, 0x1000).clamped(0x4000), None);
    /// ```
    pub fn clamped(&self, size: u64) -> Option<Self> {
        let room = size.checked_sub(self.offset)?;
        let inside = Self::new(self.offset, self.size.min(room));
        (inside.size > 0).then_some(inside)
    }

    /// The offset after the last byte, or `None` on overflow.
    pub const fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.size)
    }
}

/// `0x6000+0x1000`: offset and size.
impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}+{:#x}", self.offset, self.size)
    }
}

/// Why a layout or plan cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError {
    /// The page size is not a power of two.
    PageSize(u64),
    /// The smallest leaf size differs from the layout's page size.
    OtherPage {
        /// The smallest leaf.
        leaf: u64,
        /// The layout's page.
        layout: u64,
    },
    /// The region is so large that sums of its offsets do not fit 64 bits.
    TooLarge(u64),
    /// A hole of no bytes.
    EmptyHole(Area),
    /// A hole that does not lie in the region.
    HoleOutside {
        /// The hole.
        hole: Area,
        /// Size of the region in bytes.
        region: u64,
    },
    /// A physical address that is not page-aligned.
    PhysUnaligned(u64),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageSize(size) => write!(f, "page size {size} is not a power of two"),
            Self::OtherPage { leaf, layout } => {
                write!(
                    f,
                    "the smallest leaf has {leaf} bytes, but the layout's page has {layout}"
                )
            }
            Self::TooLarge(size) => write!(f, "a region of {size:#x} bytes is too large to map"),
            Self::EmptyHole(hole) => write!(f, "the hole {hole} is empty"),
            Self::HoleOutside { hole, region } => write!(
                f,
                "the hole {hole} does not lie in the region of {} ({region:#x} bytes)",
                Bytes(*region)
            ),
            Self::PhysUnaligned(address) => {
                write!(f, "physical address {address:#x} is not page-aligned")
            }
        }
    }
}

impl core::error::Error for LayoutError {}

/// The mappable areas of a region: what is left without the holes.
///
/// # Invariants
///
/// Areas are not empty, lie in the region, start and end on page boundaries (the last page may
/// reach beyond a region whose size is not page-aligned), ascend, and do not touch one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    size: u64,
    page: u64,
    areas: Vec<Area>,
}

impl Layout {
    /// A region of `size` bytes that can be mapped whole.
    ///
    /// `page` is the machine's page size in bytes. A region whose size is not a multiple of it is mapped up
    /// to the end of its last page, as the kernel does for a BAR that has that page to itself.
    pub fn whole(size: u64, page: u64) -> Result<Self, LayoutError> {
        Self::with_areas(size, page, [Area::new(0, size)])
    }

    /// A region of `size` bytes of which only `areas` can be mapped.
    ///
    /// The areas may come in any order, overlap, touch, be empty or reach beyond the region, as
    /// drivers report them in `VFIO_REGION_INFO_CAP_SPARSE_MMAP`; they are sorted, merged and cut to
    /// the region. An edge inside a page moves inwards, so that nothing is mapped that was not offered.
    ///
    /// ```
    /// use hugebar::layout::{Area, Layout};
    /// let areas = [Area::new(0x3000, 0x1000), Area::new(0, 0x2000), Area::new(0x1000, 0x1000)];
    /// let layout = Layout::with_areas(0x4000, 4096, areas).unwrap();
    /// assert_eq!(layout.areas(), [Area::new(0, 0x2000), Area::new(0x3000, 0x1000)]);
    /// ```
    pub fn with_areas(
        size: u64,
        page: u64,
        areas: impl IntoIterator<Item = Area>,
    ) -> Result<Self, LayoutError> {
        if !page.is_power_of_two() {
            return Err(LayoutError::PageSize(page));
        }
        // Half of the address space, so that any two offsets of a layout can be added.
        let limit = size
            .checked_next_multiple_of(page)
            .filter(|&limit| limit <= 1 << 62)
            .ok_or(LayoutError::TooLarge(size))?;
        let mut ranges: Vec<(u64, u64)> = areas
            .into_iter()
            .filter(|area| area.size > 0 && area.offset < size)
            .map(|area| {
                let end = area.end().unwrap_or(u64::MAX);
                (area.offset, if end >= size { limit } else { end })
            })
            .collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        // Round to whole pages only after merging: two adjacent halves of a page make a page.
        let areas = merged
            .into_iter()
            .map(|(start, end)| (start.next_multiple_of(page), end / page * page))
            .filter(|(start, end)| start < end)
            .map(|(start, end)| Area::new(start, end - start))
            .collect();
        Ok(Self { size, page, areas })
    }

    /// The same layout with one more hole.
    ///
    /// The hole is rounded out to whole pages, so that nothing in it is mapped. An empty hole, or one that
    /// reaches beyond the region, is an error.
    ///
    /// ```
    /// use hugebar::layout::{Area, Layout};
    /// let layout = Layout::whole(1 << 20, 4096)?.without(Area::new(0x6000, 0x1000))?;
    /// assert_eq!(layout.areas(), [Area::new(0, 0x6000), Area::new(0x7000, 0xf9000)]);
    /// # Ok::<(), hugebar::layout::LayoutError>(())
    /// ```
    pub fn without(&self, hole: Area) -> Result<Self, LayoutError> {
        if hole.size == 0 {
            return Err(LayoutError::EmptyHole(hole));
        }
        let outside = LayoutError::HoleOutside {
            hole,
            region: self.size,
        };
        let end = hole.end().filter(|&end| end <= self.size).ok_or(outside)?;
        let hole_start = hole.offset / self.page * self.page;
        let hole_end = end.next_multiple_of(self.page);
        let mut areas = Vec::with_capacity(self.areas.len() + 1);
        for area in &self.areas {
            let (start, end) = (area.offset, area.offset + area.size);
            let before = (start, end.min(hole_start));
            let after = (start.max(hole_end), end);
            for (start, end) in [before, after] {
                if start < end {
                    areas.push(Area::new(start, end - start));
                }
            }
        }
        Ok(Self { areas, ..*self })
    }

    /// Size of the region in bytes, mappable or not.
    pub fn region_size(&self) -> u64 {
        self.size
    }

    /// The page size that areas are aligned to, in bytes.
    pub fn page(&self) -> u64 {
        self.page
    }

    /// The mappable areas, ascending.
    pub fn areas(&self) -> &[Area] {
        &self.areas
    }

    /// The number of bytes that can be mapped.
    pub fn mappable(&self) -> u64 {
        self.areas.iter().map(|area| area.size).sum()
    }

    /// The region's size in whole pages, in bytes.
    pub fn span(&self) -> u64 {
        self.size.next_multiple_of(self.page)
    }
}
