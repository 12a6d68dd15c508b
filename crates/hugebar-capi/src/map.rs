//! Mappings: regions of devices, or of any file, at addresses.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;

use hugebar::bar::Bar;
use hugebar::facts::Facts;
use hugebar::mem::{MapOptions, Mapping};

use crate::argument::{descriptor, fill};
use crate::device::{hugebar_area, hugebar_device};
use crate::error::{Failure, Result, call};
use crate::handle;
use crate::leaf::hugebar_leaves;
use crate::plan::{absent, areas, hugebar_map_options, hugebar_plan, options};
use crate::window::hugebar_window;

/// A mapped region.
pub struct hugebar_mapping(pub(crate) Mapped);

/// What is mapped.
pub(crate) enum Mapped {
    /// A region of a device.
    Region(Bar),
    /// A part of a file.
    File(Arc<Mapping>),
}

impl hugebar_mapping {
    /// The mapping itself.
    pub(crate) fn mapping(&self) -> &Mapping {
        match &self.0 {
            Mapped::Region(bar) => bar.mapping(),
            Mapped::File(mapping) => mapping,
        }
    }

    /// The mapped region of a device.
    pub(crate) fn bar(&self) -> Result<&Bar> {
        match &self.0 {
            Mapped::Region(bar) => Ok(bar),
            Mapped::File(_) => {
                let message = "this mapping is not one of a device (hugebar_map_region)";
                Err(Failure::new(libc::ENOTSUP, message))
            }
        }
    }
}

/// A mapped area and its address.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_mapped_area {
    /// Where it starts in the region, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
    /// The address of its first byte.
    pub address: *mut c_void,
}

/// A memory slot for a guest (`KVM_SET_USER_MEMORY_REGION`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_slot {
    /// Its address in this process (`userspace_addr`).
    pub address: *mut c_void,
    /// Its length in bytes, whole pages.
    pub size: u64,
    /// Its offset in the region: its guest address is the region's plus this.
    pub offset: u64,
}

/// The pointer to an address of a mapping.
fn pointer(address: u64) -> Result<*mut c_void> {
    let address = usize::try_from(address);
    let address = address.map_err(|_| Failure::new(libc::EOVERFLOW, "an address is too large"))?;
    // The kernel has mapped it, and only C uses it.
    Ok(std::ptr::with_exposed_provenance_mut(address))
}

/// Maps a BAR, or another region of a device (`mmap`, `madvise`). `options` may be NULL. `window` may be NULL to reserve
/// addresses; if it is given, it was made for the plan of this region and these options (`hugebar_plan_of_region`). It is
/// closed by this call, even if mapping fails; only if an argument is wrong it stays open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_map_region(
    device: *const hugebar_device,
    index: u32,
    options: Option<&hugebar_map_options>,
    window: *mut hugebar_window,
    mapping: Option<&mut MaybeUninit<*mut hugebar_mapping>>,
) -> c_int {
    handle::give(mapping, || {
        let device = handle::get(device)?;
        // SAFETY: the caller's contract.
        let options = unsafe { self::options(options) }?;
        let mut bar = options.region(&device, index)?;
        if options.read_only {
            bar = bar.read_only();
        }
        if !window.is_null() {
            bar = bar.within(handle::take(window)?.0);
        }
        Ok(hugebar_mapping(Mapped::Region(bar.map()?)))
    })
}

/// Maps a region of any file by a plan; the region starts at `fd_offset` in the file. `options` may be NULL; of them only
/// the hint and `HUGEBAR_MAP_READ_ONLY` are used, the rest is the plan's. `window` is as for `hugebar_map_region`. The
/// descriptor may be closed afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_map_fd(
    fd: c_int,
    fd_offset: u64,
    plan: *const hugebar_plan,
    options: Option<&hugebar_map_options>,
    window: *mut hugebar_window,
    mapping: Option<&mut MaybeUninit<*mut hugebar_mapping>>,
) -> c_int {
    handle::give(mapping, || {
        // SAFETY: the caller keeps it open during the call.
        let fd = unsafe { descriptor(fd) }?;
        let plan = handle::get(plan)?;
        // SAFETY: the caller's contract.
        let options = unsafe { self::options(options) }?;
        let options = MapOptions {
            read: true,
            write: !options.read_only,
            hint: options.hint,
        };
        let window = match window.is_null() {
            true => hugebar::mem::Window::reserve(&plan.0)?,
            false => handle::take(window)?.0,
        };
        let mapping = Mapping::new(fd, fd_offset, &plan.0, window, options)?;
        Ok(hugebar_mapping(Mapped::File(Arc::new(mapping))))
    })
}

/// Unmaps a mapping and gives its addresses back. Pointers into it, and slots of it, must not be used any more.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_mapping_close(mapping: *mut hugebar_mapping) -> c_int {
    handle::close(mapping)
}

/// Unmaps a mapping but keeps the addresses, to map the region with other holes in the same place. Closes `mapping`, even if
/// that fails; it stays open only if an argument is wrong, or with -EBUSY, while another thread uses it or it is mapped for
/// other devices.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_mapping_into_window(
    mapping: *mut hugebar_mapping,
    window: Option<&mut MaybeUninit<*mut hugebar_window>>,
) -> c_int {
    handle::give(window, || {
        let shared = || Failure::new(libc::EBUSY, "the region is mapped for other devices");
        if let Ok(bar) = handle::get(mapping)?.bar() {
            if Arc::strong_count(bar.mapping()) > 1 {
                return Err(shared());
            }
        }
        Ok(hugebar_window(match handle::take(mapping)?.0 {
            Mapped::Region(bar) => bar.into_window()?,
            Mapped::File(mapping) => {
                let mapping = Arc::into_inner(mapping).ok_or_else(shared)?;
                mapping.into_window()?
            }
        }))
    })
}

/// Returns the address of region offset 0: byte `o` of the region is at this address plus `o`. -ENOTSUP if the areas lie
/// apart, which happens only without `HUGEBAR_PLACEMENT_CONGRUENT`.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_mapping_base(
    mapping: *const hugebar_mapping,
    base: Option<&mut MaybeUninit<*mut c_void>>,
) -> c_int {
    handle::tell(base, mapping, |own| {
        let apart = || Failure::new(libc::ENOTSUP, "the areas of the mapping lie apart");
        let base = own.mapping().as_ptr().ok_or_else(apart)?;
        Ok(base.as_ptr().cast())
    })
}

/// Returns the address of `size` bytes at a region offset, after checking that they are mapped: -EINVAL if they lie in a
/// hole or beyond the region. For device memory use aligned volatile accesses.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_mapping_pointer(
    mapping: *const hugebar_mapping,
    offset: u64,
    size: u64,
    pointer: Option<&mut MaybeUninit<*mut c_void>>,
) -> c_int {
    handle::tell(pointer, mapping, |own| {
        Ok(own.mapping().pointer(offset, size)?.as_ptr().cast())
    })
}

/// Returns how many areas are mapped.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_mapping_area_count(
    mapping: *const hugebar_mapping,
    count: Option<&mut MaybeUninit<usize>>,
) -> c_int {
    handle::tell(count, mapping, |own| Ok(own.mapping().areas().len()))
}

/// Returns a mapped area; they ascend by offset. -ENOENT if there is no such area.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_mapping_area(
    mapping: *const hugebar_mapping,
    number: usize,
    area: Option<&mut MaybeUninit<hugebar_mapped_area>>,
) -> c_int {
    handle::tell(area, mapping, |mapping| {
        let own = mapping.mapping().areas().get(number);
        let own = own.ok_or_else(|| absent("area", number))?;
        Ok(hugebar_mapped_area {
            offset: own.area.offset,
            size: own.area.size,
            address: pointer(own.address())?,
        })
    })
}

/// Returns the alignment of the addresses in bytes: the plan's, or less if address space was scarce.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_mapping_alignment(
    mapping: *const hugebar_mapping,
    alignment: Option<&mut MaybeUninit<u64>>,
) -> c_int {
    handle::tell(alignment, mapping, |own| Ok(own.mapping().alignment()))
}

/// Returns whether the kernel took the hint for huge pages (`MADV_HUGEPAGE`).
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_mapping_hinted(
    mapping: *const hugebar_mapping,
    hinted: Option<&mut MaybeUninit<bool>>,
) -> c_int {
    handle::tell(hinted, mapping, |own| Ok(own.mapping().hinted()))
}

/// Returns the fewest leaves that any addresses give.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_mapping_best(
    mapping: *const hugebar_mapping,
    leaves: Option<&mut MaybeUninit<hugebar_leaves>>,
) -> c_int {
    handle::tell(leaves, mapping, |own| {
        Ok((&own.mapping().plan().best()).into())
    })
}

/// Returns the leaves that these addresses give on this kernel.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_mapping_expected(
    mapping: *const hugebar_mapping,
    leaves: Option<&mut MaybeUninit<hugebar_leaves>>,
) -> c_int {
    handle::tell(leaves, mapping, |own| {
        let sizes = Facts::observe().device_leaf_sizes();
        Ok((&own.mapping().expected(&sizes)).into())
    })
}

/// Returns the memory slots for a guest: each mapped area, without the parts in `exclude`, which the caller emulates. Writes at
/// most `room` of them to `slots`, which may be NULL if `room` is 0, and to `count` how many there are. Remove the slots
/// from the guest before closing the mapping.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_mapping_slots(
    mapping: *const hugebar_mapping,
    exclude: *const hugebar_area,
    exclude_count: usize,
    slots: *mut hugebar_slot,
    room: usize,
    count: Option<&mut MaybeUninit<usize>>,
) -> c_int {
    call(|| {
        let mapping = handle::get(mapping)?;
        // SAFETY: the caller's contract.
        let exclude = unsafe { areas(exclude, exclude_count) }?;
        let own = mapping.mapping().slots(&exclude)?;
        let own = own.iter().map(|slot| {
            Ok(hugebar_slot {
                address: pointer(slot.address)?,
                size: slot.area.size,
                offset: slot.area.offset,
            })
        });
        let own = own.collect::<Result<Vec<_>>>()?;
        // SAFETY: the caller's contract.
        unsafe { fill(&own, slots, room, count) }
    })
}
