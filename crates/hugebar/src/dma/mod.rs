//! Memory for DMA: guards that keep what a device can reach where it is.
//!
//! [`DmaBuffer`] is memory and mapping in one. [`AddressSpace::map_owned`] maps memory of any other kind, whose owner
//! then lives in the guard; [`AddressSpace::map_raw`] maps what the caller answers for.
//!
//! [`AddressSpace::map_bar`] maps a BAR, for peer-to-peer DMA.
//!
//! A guard unmaps before its memory is freed. Should the kernel refuse to unmap, the memory is leaked rather than freed
//! under a device, and nothing is ever mapped at its I/O addresses again.
//!
//! What it costs: mapping locks the memory and costs the IOMMU an entry for each of its pages, of which huge pages
//! need fewer. Unmapping walks every base page on kernels up to 7.3, huge pages included. So map once, at start-up,
//! and use parts of it.
#![allow(unsafe_code, reason = "guards of memory that devices reach")]

mod buffer;
mod mapping;
mod peer;

pub use buffer::DmaBuffer;
pub use mapping::{DmaMapping, RawDmaMapping, StableMemory};
pub use peer::PeerMapping;

#[cfg(doc)]
use crate::iommu::AddressSpace;
