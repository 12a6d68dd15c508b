//! Windows: reserved addresses for mappings.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use hugebar::mem::Window;

use crate::argument::invalid;
use crate::handle;
use crate::plan::{absent, hugebar_plan};

/// Reserved addresses.
pub struct hugebar_window(pub(crate) Window);

/// A contiguous block of addresses.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_block {
    /// Its first byte.
    pub start: *mut c_void,
    /// Its length in bytes.
    pub size: usize,
}

/// Reserves addresses for a plan (`mmap` with `PROT_NONE`). If there is not enough address space, the window is aligned to
/// the next smaller leaf: `hugebar_window_alignment` tells.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_window_reserve(
    plan: *const hugebar_plan,
    window: Option<&mut MaybeUninit<*mut hugebar_window>>,
) -> c_int {
    handle::give(window, || {
        let plan = handle::get(plan)?;
        Ok(hugebar_window(Window::reserve(&plan.0)?))
    })
}

/// Takes addresses for a plan from the caller's range `[start, start + size)`, the lowest that fit. -ENOMEM if none do.
///
/// The range must consist of whole pages, be mapped (with `PROT_NONE`, say) and hold nothing in use, because mappings
/// replace what is there. Until the window and each mapping made in it are closed, it must stay mapped, and nobody else may
/// use it. Closing puts back a reservation (`PROT_NONE`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_window_within(
    plan: *const hugebar_plan,
    start: *mut c_void,
    size: usize,
    window: Option<&mut MaybeUninit<*mut hugebar_window>>,
) -> c_int {
    handle::give(window, || {
        let plan = handle::get(plan)?;
        let start = NonNull::new(start.cast()).ok_or_else(|| invalid("the range is NULL"))?;
        // SAFETY: the caller's contract.
        let window = unsafe { Window::within(&plan.0, start, size) };
        Ok(hugebar_window(window?))
    })
}

/// Closes a window that no mapping was made in, and gives its addresses back.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_window_close(window: *mut hugebar_window) -> c_int {
    handle::close(window)
}

/// Returns the actual alignment in bytes: the plan's, or less if address space was scarce.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_window_alignment(
    window: *const hugebar_window,
    alignment: Option<&mut MaybeUninit<u64>>,
) -> c_int {
    handle::tell(alignment, window, |own| Ok(own.0.alignment()))
}

/// Returns how many blocks of addresses a window has.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_window_block_count(
    window: *const hugebar_window,
    count: Option<&mut MaybeUninit<usize>>,
) -> c_int {
    handle::tell(count, window, |own| Ok(own.0.blocks().count()))
}

/// Returns a block of a window. -ENOENT if there is no such block.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_window_block(
    window: *const hugebar_window,
    number: usize,
    block: Option<&mut MaybeUninit<hugebar_block>>,
) -> c_int {
    handle::tell(block, window, |own| {
        let found = own.0.blocks().nth(number);
        let (start, size) = found.ok_or_else(|| absent("block", number))?;
        Ok(hugebar_block {
            start: start.as_ptr().cast(),
            size,
        })
    })
}
