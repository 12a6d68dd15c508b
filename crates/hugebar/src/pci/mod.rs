//! PCI functions: addresses, sysfs, and configuration space.

mod address;
mod capability;
mod class;
pub(crate) mod config;
mod decoded;
mod header;
mod holder;
pub(crate) mod iomem;
mod locate;
mod power;
mod reserved;
mod resource;
mod sysfs;

pub use address::Address;
pub use capability::{Capabilities, Capability, ExtendedCapabilities, ExtendedCapability};
pub use class::ClassCode;
pub use config::{Command, Msix};
pub use header::{Header, Unassigned};
pub use iomem::{Conflict, Holder, Iomem};
pub use locate::locate;
pub use power::PowerState;
pub use reserved::DirectRegion;
pub use resource::Resource;
pub use sysfs::{Bar, Function};
