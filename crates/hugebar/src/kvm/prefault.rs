//! Pre-faulting: fills the second stage without running the guest.

use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::kvm::{self, PreFault};

/// Has KVM map `len` bytes at guest address `address` in the second stage, which also installs the process's
/// leaves behind them (`KVM_PRE_FAULT_MEMORY` on a vCPU, repeated until done).
///
/// The guest's memory is not accessed. Page faults count as the calling thread's. Any vCPU of the
/// machine that is not running will do.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if no slot covers the bytes, or they are not whole pages;
/// [`ErrorKind::NotMappableForDma`] if the process itself could not access them;
/// [`ErrorKind::Unsupported`] without nested paging or kernel support.
pub fn prefault(vcpu: impl AsFd, address: u64, len: u64) -> Result<()> {
    let mut range = PreFault {
        gpa: address,
        size: len,
        ..PreFault::default()
    };
    let filled = fill(vcpu.as_fd(), &mut range);
    filled.map_err(|error| error.on(format!("guest address {:#x}", range.gpa)))
}

/// Calls KVM until the whole range is filled.
pub(super) fn fill(vcpu: BorrowedFd<'_>, range: &mut PreFault) -> Result<()> {
    while range.size > 0 {
        let left = range.size;
        match kvm::pre_fault_memory(vcpu, range) {
            Ok(()) if range.size < left => {}
            Ok(()) => {
                let operation = "KVM_PRE_FAULT_MEMORY makes no progress";
                return Err(Error::new(ErrorKind::Malformed, operation));
            }
            // A signal, which its handler has handled by now.
            Err(Errno::INTR) => {}
            // Another thread is changing the machine's slots.
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
            .with_remedy("register a memory slot of the guest there first"),
        Errno::INVAL => error.of_kind(ErrorKind::InvalidInput),
        Errno::FAULT => error
            .of_kind(ErrorKind::NotMappableForDma)
            .with_remedy("memory decode of the device is off, or the mapping is not readable"),
        Errno::OPNOTSUPP => error
            .of_kind(ErrorKind::Unsupported)
            .with_remedy("KVM runs without nested paging, or the guest is running a guest"),
        _ => error,
    }
}
