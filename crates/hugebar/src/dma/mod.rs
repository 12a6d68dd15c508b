//! Memory for DMA: guards that keep memory in place while a device can reach it.
//!
//! [`DmaBuffer`] is memory and mapping in one. [`AddressSpace::map_owned`] maps any other memory, and the guard
//! then owns it; [`AddressSpace::map_raw`] maps memory for which the caller is responsible.
//!
//! [`AddressSpace::map_bar`] maps a BAR, for peer-to-peer DMA.
//!
//! A guard unmaps before it frees its memory. If the kernel refuses to unmap, the memory is leaked rather than freed
//! under a device, and nothing is ever mapped at its I/O addresses again.
//!
//! Costs: mapping locks the memory and needs an IOMMU entry for each page, so huge pages
//! need fewer. Unmapping walks every base page on kernels up to 7.3, even with huge pages. So map once, at start-up,
//! and use parts of it. `docs/driver.md` has figures.
#![allow(unsafe_code, reason = "guards of memory that devices reach")]

mod buffer;
mod mapping;
mod peer;

pub use buffer::DmaBuffer;
pub use mapping::{DmaMapping, RawDmaMapping, StableMemory};
pub use peer::PeerMapping;

#[cfg(doc)]
use crate::iommu::AddressSpace;
