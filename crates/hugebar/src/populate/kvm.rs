//! Populating by KVM.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::error::Result;
use crate::kvm::{Guest, Kvm};
use crate::mem::Span;

use super::Populate;

/// Populates by `KVM_PRE_FAULT_MEMORY` in its own virtual machine, and removes the memory slot
/// again.
///
/// Needs neither an IOMMU nor a container: also works for devices behind iommufd, and for any other
/// mapping. No vCPU ever runs, and no device is accessed. Belongs to the process that made it.
#[derive(Debug)]
pub struct Prefault {
    kvm: Kvm,
    /// `None` after a failure that left a part of a span behind.
    guest: Option<Guest>,
}

impl Prefault {
    /// Opens `/dev/kvm` and makes a virtual machine.
    ///
    /// # Errors
    ///
    /// As [`Guest::new`].
    pub fn new() -> Result<Self> {
        Self::with(Kvm::open()?)
    }

    /// The same with an open descriptor of `/dev/kvm`, which becomes close-on-exec.
    ///
    /// # Errors
    ///
    /// As [`Guest::from_fd`].
    pub fn from_fd(kvm: OwnedFd) -> Result<Self> {
        Self::with(Kvm::from_fd(kvm)?)
    }

    fn with(kvm: Kvm) -> Result<Self> {
        let guest = Some(kvm.guest()?);
        Ok(Self { kvm, guest })
    }
}

impl Populate for Prefault {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn populate(&mut self, span: &Span<'_>) -> Result<Duration> {
        let guest = match self.guest.take() {
            Some(guest) => guest,
            None => self.kvm.guest()?,
        };
        let (guest, elapsed) = guest.pass_through(span);
        self.guest = guest;
        elapsed
    }
}
