//! Plans: where a region's areas should lie, and the fewest leaves possible.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use hugebar::bar::UnmappedBar;
use hugebar::layout::{Area, Layout};
use hugebar::mem::Hint;
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan};

use crate::argument::{array, invalid};
use crate::device::{
    HUGEBAR_PHYS_AT, HUGEBAR_PHYS_NATURAL, HUGEBAR_PHYS_UNKNOWN, hugebar_area, hugebar_device,
};
use crate::error::{Failure, Result};
use crate::handle;
use crate::leaf::{hugebar_leaf_sizes, hugebar_leaves, sizes};

/// One window for the whole region, congruent with its physical addresses: no other addresses give fewer leaves.
pub const HUGEBAR_PLACEMENT_CONGRUENT: u32 = 0;
/// Each area by itself, aligned to its size: for comparison.
pub const HUGEBAR_PLACEMENT_SIZE_ALIGNED: u32 = 1;
/// Each area wherever `mmap` puts it: for comparison.
pub const HUGEBAR_PLACEMENT_PLAIN: u32 = 2;

/// `MADV_HUGEPAGE` with congruent placement, no advice with the others.
pub const HUGEBAR_HINT_AUTO: u32 = 0;
/// `MADV_HUGEPAGE`.
pub const HUGEBAR_HINT_ON: u32 = 1;
/// No advice.
pub const HUGEBAR_HINT_OFF: u32 = 2;
/// `MADV_NOHUGEPAGE`: only pages, for comparison.
pub const HUGEBAR_HINT_NO_HUGEPAGE: u32 = 3;

/// Map for reading only.
pub const HUGEBAR_MAP_READ_ONLY: u32 = 1;
/// Cut holes that reach beyond the region to it, and ignore those outside. Otherwise they are an error.
pub const HUGEBAR_MAP_CLAMP_HOLES: u32 = 2;

/// How to plan or map a region. All zero, and NULL in its place, stands for the whole region, congruent and hinted.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_map_options {
    /// `HUGEBAR_PLACEMENT_CONGRUENT` or another.
    pub placement: u32,
    /// `HUGEBAR_HINT_AUTO` or another. Plans ignore it.
    pub hint: u32,
    /// `HUGEBAR_MAP_READ_ONLY` and others, or 0.
    pub flags: u32,
    /// How many elements `holes` has.
    pub hole_count: usize,
    /// Parts to leave out, rounded out to whole pages; may be NULL if there are none.
    pub holes: *const hugebar_area,
}

/// Where the areas of a region should lie.
pub struct hugebar_plan(pub(crate) Plan);

/// The addresses that one block of a plan needs: any start that is `residue` modulo `alignment`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_shape {
    /// Its length in bytes.
    pub size: u64,
    /// A power of two.
    pub alignment: u64,
    /// Less than `alignment`.
    pub residue: u64,
    /// The region offset of its first byte.
    pub offset: u64,
}

/// Options that have been checked.
pub(crate) struct Options {
    pub(crate) placement: Placement,
    pub(crate) hint: Hint,
    pub(crate) read_only: bool,
    pub(crate) clamp: bool,
    pub(crate) holes: Vec<Area>,
}

impl Options {
    /// A region of a device with the placement, the hint and the holes.
    pub(crate) fn region<'device>(
        &self,
        device: &'device hugebar_device,
        index: u32,
    ) -> Result<UnmappedBar<'device>> {
        let mut bar = device.0.bar(index)?;
        bar = bar.placement(self.placement).hint(self.hint);
        for &hole in &self.holes {
            bar = match self.clamp {
                true => bar.exclude_clamped(hole),
                false => bar.exclude(hole),
            };
        }
        Ok(bar)
    }
}

/// Areas that a caller gives.
///
/// # Safety
///
/// As for [`array()`].
pub(crate) unsafe fn areas(pointer: *const hugebar_area, count: usize) -> Result<Vec<Area>> {
    // SAFETY: the caller's contract.
    let areas = unsafe { array(pointer, count) }?.iter();
    Ok(areas
        .map(|area| Area::new(area.offset, area.size))
        .collect())
}

/// Checks options.
///
/// # Safety
///
/// The holes are as many as they say.
pub(crate) unsafe fn options(given: Option<&hugebar_map_options>) -> Result<Options> {
    let Some(given) = given else {
        return Ok(Options {
            placement: Placement::Congruent,
            hint: Hint::Auto,
            read_only: false,
            clamp: false,
            holes: Vec::new(),
        });
    };
    if given.flags & !(HUGEBAR_MAP_READ_ONLY | HUGEBAR_MAP_CLAMP_HOLES) != 0 {
        return Err(invalid(format!("unknown flags: {:#x}", given.flags)));
    }
    Ok(Options {
        placement: match given.placement {
            HUGEBAR_PLACEMENT_CONGRUENT => Placement::Congruent,
            HUGEBAR_PLACEMENT_SIZE_ALIGNED => Placement::SizeAligned,
            HUGEBAR_PLACEMENT_PLAIN => Placement::Plain,
            other => return Err(invalid(format!("{other} is no placement"))),
        },
        hint: match given.hint {
            HUGEBAR_HINT_AUTO => Hint::Auto,
            HUGEBAR_HINT_ON => Hint::On,
            HUGEBAR_HINT_OFF => Hint::Off,
            HUGEBAR_HINT_NO_HUGEPAGE => Hint::NoHugepage,
            other => return Err(invalid(format!("{other} is no hint"))),
        },
        read_only: given.flags & HUGEBAR_MAP_READ_ONLY != 0,
        clamp: given.flags & HUGEBAR_MAP_CLAMP_HOLES != 0,
        // SAFETY: the caller's contract.
        holes: unsafe { areas(given.holes, given.hole_count) }?,
    })
}

/// Plans a region of `size` bytes. `phys` says what is known about its physical addresses, `HUGEBAR_PHYS_AT` that it starts
/// at `phys_address`; for a file in memory that is the offset in the file. `options` and `sizes` may be NULL, for the
/// defaults and the leaf sizes of this machine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_plan_new(
    size: u64,
    phys: u32,
    phys_address: u64,
    options: Option<&hugebar_map_options>,
    sizes: Option<&hugebar_leaf_sizes>,
    plan: Option<&mut MaybeUninit<*mut hugebar_plan>>,
) -> c_int {
    handle::give(plan, || {
        // SAFETY: the caller's contract.
        let options = unsafe { self::options(options) }?;
        let sizes = self::sizes(sizes)?;
        let phys = match phys {
            HUGEBAR_PHYS_NATURAL => Phys::Natural,
            HUGEBAR_PHYS_AT => Phys::At(phys_address),
            HUGEBAR_PHYS_UNKNOWN => Phys::Unknown,
            other => return Err(invalid(format!("{other} is none of HUGEBAR_PHYS_…"))),
        };
        let mut layout = Layout::whole(size, sizes.base())?;
        for hole in &options.holes {
            let clamped = match options.clamp {
                true => hole.clamped(size),
                false => Some(*hole),
            };
            if let Some(hole) = clamped {
                layout = layout.without(hole)?;
            }
        }
        let plan = Plan::new(&layout, phys, &sizes, options.placement)?;
        Ok(hugebar_plan(plan))
    })
}

/// Plans a region of a device, without what its driver does not allow to be mapped. `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_plan_of_region(
    device: *const hugebar_device,
    index: u32,
    options: Option<&hugebar_map_options>,
    plan: Option<&mut MaybeUninit<*mut hugebar_plan>>,
) -> c_int {
    handle::give(plan, || {
        let device = handle::get(device)?;
        // SAFETY: the caller's contract.
        let options = unsafe { self::options(options) }?;
        Ok(hugebar_plan(options.region(&device, index)?.plan()?))
    })
}

/// Closes a plan. Windows and mappings made from it stay.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_plan_close(plan: *mut hugebar_plan) -> c_int {
    handle::close(plan)
}

/// Returns the fewest leaves that any addresses give.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_plan_best(
    plan: *const hugebar_plan,
    leaves: Option<&mut MaybeUninit<hugebar_leaves>>,
) -> c_int {
    handle::tell(leaves, plan, |own| Ok((&own.0.best()).into()))
}

/// Returns how many blocks of addresses a plan needs: one if it is congruent.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_plan_shape_count(
    plan: *const hugebar_plan,
    count: Option<&mut MaybeUninit<usize>>,
) -> c_int {
    handle::tell(count, plan, |own| Ok(own.0.shapes().len()))
}

/// Returns which addresses a block of a plan needs, for programs that choose addresses themselves. -ENOENT if there is no
/// such block.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_plan_shape(
    plan: *const hugebar_plan,
    number: usize,
    shape: Option<&mut MaybeUninit<hugebar_shape>>,
) -> c_int {
    handle::tell(shape, plan, |own| {
        let shape = own.0.shapes().get(number);
        let shape = shape.ok_or_else(|| absent("shape", number))?;
        Ok(hugebar_shape {
            size: shape.length(),
            alignment: shape.alignment(),
            residue: shape.residue(),
            offset: shape.origin(),
        })
    })
}

/// There are not that many of something.
pub(crate) fn absent(what: &str, number: usize) -> Failure {
    Failure::new(libc::ENOENT, format!("there is no {what} {number}"))
}
