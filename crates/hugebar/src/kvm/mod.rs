//! KVM: populating mappings by it, and the leaves that it has in the second stage.
//!
//! [`Prefault`] populates where VFIO cannot, such as behind iommufd: it gives the pages to a virtual
//! machine of its own, of which no vCPU ever runs, and has KVM map them (`KVM_PRE_FAULT_MEMORY`, Linux
//! 6.11 and later on x86 and s390). [`Guest`] keeps such a machine, to try memory slots and guest
//! addresses on. A virtual machine monitor that has a machine of its own registers
//! [`crate::mem::Mapping::slots`] there, and uses [`prefault`] and [`second_stage`] on its descriptors.
//! Which leaves a guest address gives is said by [`crate::guest`].

mod guest;
mod populate;
mod stats;

pub use guest::Guest;
pub use populate::{Prefault, prefault};
pub use stats::second_stage;
