//! An open device as all that use it share it: its descriptor, what it is in, and which of its interrupts are enabled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::iommu::{Container, Group, Ioas};

/// What a device is in, and keeps open.
#[derive(Clone, Debug)]
pub(super) enum Attachment {
    /// A group that this crate opened, in a container.
    Group(Arc<Group>),
    /// An address space of an iommufd, or none of it.
    Iommufd(Arc<Ioas>),
    /// Whatever somebody else has put it into: perhaps a container that is known.
    Elsewhere(Option<Arc<Container>>),
}

/// A descriptor that a device and the guards of its interrupts share: the last of them closes it.
///
/// Fields drop in order: the device is closed before what it is in.
#[derive(Debug)]
pub(super) struct Handle<F> {
    pub(super) fd: F,
    /// Kept open with the descriptor, also where the device itself has been dropped.
    attachment: Mutex<Attachment>,
    irqs: Mutex<[Enabled; 5]>,
}

/// Whether the kernel has interrupts of a kind enabled for us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Enabled {
    #[default]
    No,
    /// Somebody holds the guard.
    Yes,
    /// The guard is gone, but the kernel refused to disable them.
    Left,
}

impl<F> Handle<F> {
    pub(super) fn new(fd: F, attachment: Attachment) -> Self {
        Self {
            fd,
            attachment: Mutex::new(attachment),
            irqs: Mutex::default(),
        }
    }

    /// The device was put into another address space.
    pub(super) fn moved(&self, attachment: Attachment) {
        let own = self.attachment.lock();
        *own.unwrap_or_else(PoisonError::into_inner) = attachment;
    }

    /// Which kinds of interrupts are enabled, by their indices; nobody else changes that meanwhile.
    pub(super) fn irqs(&self) -> MutexGuard<'_, [Enabled; 5]> {
        self.irqs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
