//! IOMMU address spaces for devices: containers with type1, and address spaces of an iommufd.

mod container;
mod ioas;
mod iova;
mod locked;
mod pages;
mod space;

pub(crate) use container::Group;
pub use container::{Container, IommuKind};
pub use ioas::Ioas;
pub use iova::IovaRange;
pub use space::{AddressSpace, DmaAccess};
pub(crate) use space::{DeviceMemory, Refused, Room, Source};
