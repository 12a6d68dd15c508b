//! Addresses: windows reserved by a plan, mappings in them, access to what is mapped.
//!
//! Works for any file descriptor that can be mapped: VFIO devices, and memory files in tests.

#![allow(unsafe_code, reason = "one of the modules that may: addresses")]

mod access;
#[cfg(feature = "kvm")]
mod guest;
mod mapping;
mod slots;
mod span;
mod window;

pub use access::{AccessError, Word};
pub use mapping::{Hint, MapOptions, MappedArea, Mapping};
pub use span::Span;
pub use window::Window;
pub use window::leftovers::leftovers;

#[cfg(feature = "kvm")]
pub(crate) use guest::GuestMemory;
pub(crate) use span::Scratch;

/// The machine maps pages of its own size: a plan for smaller ones would reach beyond its areas.
fn check_page(plan: &crate::plan::Plan) -> crate::Result<()> {
    let (page, machine) = (plan.layout().page(), crate::sys::process::page_size());
    if page % machine == 0 {
        return Ok(());
    }
    let operation = format!("the plan is for pages of {page} bytes, this machine has {machine}");
    Err(crate::Error::new(crate::ErrorKind::InvalidInput, operation))
}

/// A length or address as the machine has it; no 64-bit machine refuses.
fn to_usize(value: u64) -> crate::Result<usize> {
    usize::try_from(value).map_err(|_| {
        crate::Error::new(
            crate::ErrorKind::OutOfMemory,
            format!("{value:#x} bytes do not fit this machine's address space"),
        )
    })
}
