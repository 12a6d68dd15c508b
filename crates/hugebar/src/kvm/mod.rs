//! KVM: memory slots, populating by it, and the leaves that it has in the second stage.
//!
//! [`Guest`] is a virtual machine of which no vCPU ever runs, to try memory slots and guest addresses on.
//! A virtual machine monitor that has a machine of its own registers [`crate::mem::Mapping::slots`] there, and
//! uses [`prefault()`] and [`second_stage`] on its descriptors. Which leaves a guest address gives is said by
//! [`crate::guest`]; [`crate::populate::Prefault`] populates mappings by KVM.

mod machine;
mod prefault;
mod slots;
mod stats;

pub use machine::Guest;
pub(crate) use machine::Kvm;
pub use prefault::prefault;
pub use stats::second_stage;
