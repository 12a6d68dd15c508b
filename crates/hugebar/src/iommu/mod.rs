//! Address spaces of the IOMMU that devices are put into: containers with type1, and those of an iommufd.

mod container;
mod ioas;

pub(crate) use container::Group;
pub use container::{Container, IommuKind, IovaRange};
pub use ioas::Ioas;
