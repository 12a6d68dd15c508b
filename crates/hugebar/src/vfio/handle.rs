//! The shared part of an open device: its descriptor, its address space, and which of its interrupts are enabled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::iommu::{Container, Group, Ioas};

/// What a device is attached to, and keeps open.
#[derive(Clone, Debug)]
pub(super) enum Attachment {
    /// A group that this crate opened, in a container.
    Group(Arc<Group>),
    /// An address space of an iommufd, or none.
    Iommufd(Arc<Ioas>),
    /// Something set up outside this crate; the container, if known.
    Elsewhere(Option<Arc<Container>>),
}

/// A descriptor shared by a device and the guards of its interrupts. The last one closes it.
///
/// Fields drop in order: the device is closed before what it is attached to.
#[derive(Debug)]
pub(super) struct Handle<F> {
    pub(super) fd: F,
    /// Stays open with the descriptor, even if the device itself was dropped.
    attachment: Mutex<Attachment>,
    irqs: Mutex<[Enabled; 5]>,
}

/// Whether interrupts of a kind are enabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Enabled {
    #[default]
    No,
    /// Enabled, with a live guard.
    Yes,
    /// The guard was dropped, but the kernel refused to disable them.
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

    /// Records that the device was attached to another address space.
    pub(super) fn moved(&self, attachment: Attachment) {
        let own = self.attachment.lock();
        *own.unwrap_or_else(PoisonError::into_inner) = attachment;
    }

    /// Which kinds of interrupts are enabled, by index; locked against changes.
    pub(super) fn irqs(&self) -> MutexGuard<'_, [Enabled; 5]> {
        self.irqs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
