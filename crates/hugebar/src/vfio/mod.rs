//! VFIO devices, by group and container or by their own node and iommufd: opening them, their regions,
//! reading and writing by `pread` and `pwrite`.

mod bind;
mod device;
mod firmware;
mod group;
mod open;
mod region;

pub use bind::bind_commands;
pub use device::Device;
pub use firmware::REMEDY as FIRMWARE_REMEDY;
pub use group::{held_by_others, is_vfio, to_free};
pub use open::Backend;
pub use region::{Capability, Region, RegionFlags};
