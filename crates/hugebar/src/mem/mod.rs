//! Addresses: windows reserved by a plan, mappings in them, access to what is mapped.
//!
//! Works for any file descriptor that can be mapped: VFIO devices, and memory files in tests.

#![allow(unsafe_code, reason = "one of the modules that may: addresses")]

mod mapping;
mod mmio;
mod pages;
mod refused;
mod register;
mod slots;
mod window;

pub use mapping::{Hint, MapOptions, MappedArea, Mapping};
pub use mmio::{AccessError, Word};
pub use pages::Span;
pub use register::{OwnedRegister, ReadOnly, ReadWrite, Readable, Register, Writable, WriteOnly};
pub use slots::OwnedSlot;
pub use window::Window;
pub use window::leftovers::leftovers;

pub(crate) use pages::Scratch;

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
