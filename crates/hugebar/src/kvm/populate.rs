//! Populating by KVM.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::mem::Span;
use crate::populate::Populate;
use crate::sys::kvm::{self, PreFault};

use super::Guest;
use super::guest::Kvm;

/// Has KVM map `len` bytes at guest address `address` in the second stage, and so have the process's
/// leaves installed behind them (`KVM_PRE_FAULT_MEMORY` on a vCPU, as often as it takes).
///
/// The guest's memory is not accessed. Page faults count as the calling thread's. Any vCPU of the
/// machine will do that is not running.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] where no slot covers the bytes, or they are not whole pages;
/// [`ErrorKind::NotMappableForDma`] where the process itself could not access them;
/// [`ErrorKind::Unsupported`] without nested paging, or on a kernel that cannot.
pub fn prefault(vcpu: impl AsFd, address: u64, len: u64) -> Result<()> {
    let mut range = PreFault {
        gpa: address,
        size: len,
        ..PreFault::default()
    };
    let filled = fill(vcpu.as_fd(), &mut range);
    filled.map_err(|error| error.on(format!("guest address {:#x}", range.gpa)))
}

/// Calls KVM until nothing of the range is left.
pub(super) fn fill(vcpu: BorrowedFd<'_>, range: &mut PreFault) -> Result<()> {
    while range.size > 0 {
        let left = range.size;
        match kvm::pre_fault_memory(vcpu, range) {
            Ok(()) if range.size < left => {}
            Ok(()) => {
                let operation = "KVM_PRE_FAULT_MEMORY makes no progress";
                return Err(Error::new(ErrorKind::Malformed, operation));
            }
            // A signal, which its handler has seen to by now.
            Err(Errno::INTR) => {}
            // Somebody is changing the machine's slots.
            Err(Errno::AGAIN) => thread::yield_now(),
            Err(errno) => return Err(refused(errno)),
        }
    }
    Ok(())
}

fn refused(errno: Errno) -> Error {
    let error = Error::call(kvm::PRE_FAULT_MEMORY.name, errno);
    match errno {
        Errno::NOENT => error
            .of_kind(ErrorKind::InvalidInput)
            .remedy("no memory slot of the guest is there"),
        Errno::INVAL => error.of_kind(ErrorKind::InvalidInput),
        Errno::FAULT => error
            .of_kind(ErrorKind::NotMappableForDma)
            .remedy("memory decode of the device is off, or the mapping is not readable"),
        Errno::OPNOTSUPP => error
            .of_kind(ErrorKind::Unsupported)
            .remedy("KVM runs without nested paging, or the guest is running a guest"),
        _ => error,
    }
}

/// Populates by `KVM_PRE_FAULT_MEMORY` in a virtual machine of its own, and removes the memory slot
/// again.
///
/// Needs neither an IOMMU nor a container: works for devices behind iommufd too, and for any other
/// mapping. No vCPU ever runs, and no device is accessed. Belongs to the process that made it.
#[derive(Debug)]
pub struct Prefault {
    kvm: Kvm,
    /// None after a failure that left something of a span behind.
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

    /// The same by a descriptor of `/dev/kvm` that somebody else has opened. It becomes close-on-exec.
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
        let elapsed = guest.pass_through(span);
        match &elapsed {
            // What could not be removed goes with the machine.
            Err(error) if error.kind() == ErrorKind::Malformed => drop(guest),
            _ => self.guest = Some(guest),
        }
        elapsed
    }
}
