//! Addresses: windows reserved by a plan, mappings in them, access to what is mapped.
//!
//! Works for any file descriptor that can be mapped: VFIO devices, and memory files in tests.
//!
//! # The order of accesses
//!
//! An access by [`Mapping::read`], [`Register::read`] and the like is one load or store of the word's size, which the
//! compiler neither repeats, splits or merges nor moves past another one. VFIO maps device memory uncached
//! (`pgprot_noncached`): x86-64 and arm64 (Device-nGnRnE) keep the accesses to one device in program order. A write
//! is posted: that it has arrived is only known once a read of the same device has come back.
//!
//! None of this orders them with accesses of ordinary memory, such as a descriptor that the device is to read
//! next. That takes a DMA barrier between the two: [`dma_wmb`] before a doorbell is rung, [`dma_rmb`] before
//! reading what a device has written. Rust's fences are none on arm64, for they reach only other processors.

#![allow(unsafe_code, reason = "one of the modules that may: addresses")]

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
