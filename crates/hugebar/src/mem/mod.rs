//! Addresses: windows reserved by a plan, mappings in them, and access to mapped memory.
//!
//! Works with any file descriptor that can be mapped: VFIO devices, and memory files in tests.
//!
//! # The order of accesses
//!
//! An access by [`Mapping::read`], [`Register::read`] and the like is one load or store of the word's size, which the
//! compiler does not repeat, split, merge or move past another one. VFIO maps device memory uncached
//! (`pgprot_noncached`): x86-64 and arm64 (Device-nGnRnE) keep the accesses to one device in program order. Writes
//! are posted: a write is only certain to have arrived once a later read of the same device has returned.
//!
//! None of this orders them with accesses to ordinary memory, such as a descriptor that the device will read
//! next. That takes a DMA barrier between the two: [`dma_wmb`] before ringing a doorbell, [`dma_rmb`] before
//! reading what a device has written. Rust's fences do not suffice on arm64, because they reach only other processors.

#![allow(unsafe_code, reason = "manages addresses")]

mod barrier;
mod mapping;
mod memory;
mod mmio;
mod pages;
mod refused;
mod register;
mod slots;
mod window;

pub use barrier::{dma_mb, dma_rmb, dma_wmb};
pub use mapping::{Hint, MapOptions, MappedArea, Mapping};
pub use memory::{HugePage, Memory};
pub use mmio::{AccessError, Word};
pub use pages::Span;
pub use register::{OwnedRegister, ReadOnly, ReadWrite, Readable, Register, Writable, WriteOnly};
pub use slots::OwnedSlot;
pub use window::Window;
pub use window::leftovers::leftovers;

pub(crate) use pages::Scratch;

/// Checks the plan's page size: with a smaller one than the machine's, mappings would reach beyond the areas.
fn check_page(plan: &crate::plan::Plan) -> crate::Result<()> {
    let (page, machine) = (plan.layout().page(), crate::sys::process::page_size());
    if page % machine == 0 {
        return Ok(());
    }
    let operation =
        format!("the plan is for pages of {page} bytes, but this machine has {machine}");
    Err(crate::Error::new(crate::ErrorKind::InvalidInput, operation))
}

/// Converts a length or address; never fails on a 64-bit machine.
fn to_usize(value: u64) -> crate::Result<usize> {
    usize::try_from(value).map_err(|_| {
        crate::Error::new(
            crate::ErrorKind::OutOfMemory,
            format!("{value:#x} bytes do not fit this machine's address space"),
        )
    })
}
