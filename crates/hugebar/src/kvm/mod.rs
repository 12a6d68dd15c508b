//! KVM: memory slots, populating, and the leaves in the second stage.
//!
//! [`Guest`] is a virtual machine whose vCPU never runs, to try out memory slots and guest addresses.
//! A virtual machine monitor registers [`crate::mem::Mapping::slots`] with its own machine, and
//! uses [`prefault()`] and [`second_stage`] on its descriptors. [`crate::guest`] computes the leaves of a
//! guest address; [`crate::populate::Prefault`] populates mappings by KVM.

mod machine;
mod prefault;
mod slots;
mod stats;

pub use machine::Guest;
pub(crate) use machine::Kvm;
pub use prefault::prefault;
pub use stats::second_stage;
