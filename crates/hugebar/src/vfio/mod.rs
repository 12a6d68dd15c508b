//! VFIO devices, by group and container or by their own node and iommufd: opening them, their regions,
//! reading and writing by `pread` and `pwrite`.

mod device;
mod dma_buf;
mod firmware;
mod group;
mod open;
mod region;
pub mod remedy;

pub use device::Device;
pub use group::{held_by_others, is_vfio};
pub use open::Backend;
pub use region::{Capability, Region, RegionFlags};
