//! VFIO devices, by group and container or by their own node and iommufd: opening them, their regions,
//! reading and writing by `pread` and `pwrite`, their configuration space, interrupts,
//! resets and power.

mod config;
mod device;
mod dma_buf;
mod enable;
mod firmware;
mod group;
mod handle;
mod interrupts;
mod irq;
mod open;
mod power;
mod region;
pub mod remedy;
mod reset;

pub use config::ConfigSpace;
pub use device::Device;
pub use group::{held_by_others, is_vfio};
pub use interrupts::Interrupts;
pub use irq::{IrqFlags, IrqInfo, IrqKind};
pub use open::Backend;
pub use region::{Capability, Region, RegionFlags};
pub use reset::Affected;
