//! The KVM ioctls, one function each, and the structs of `linux/kvm.h` that they take.
//!
//! KVM requests encode direction and size in their number (`_IOC`), so a struct can never grow.

#![allow(unsafe_code, reason = "one of the modules that may: system calls")]

use core::ffi::c_int;
use core::ptr::NonNull;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Result;
use rustix::ioctl::opcode;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ioctl::{Number, Request, number, requests, update};

/// `KVM_API_VERSION`: the same since Linux 2.6.22.
pub(crate) const API_VERSION: i32 = 12;
/// `KVM_CAP_PRE_FAULT_MEMORY`.
pub(crate) const CAP_PRE_FAULT_MEMORY: u32 = 236;
/// `KVM_CAP_BINARY_STATS_FD`.
pub(crate) const CAP_BINARY_STATS_FD: u32 = 203;
/// `KVM_MEM_READONLY`.
pub(crate) const MEM_READONLY: u32 = 1 << 1;

/// `struct kvm_userspace_memory_region`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct MemoryRegion {
    pub(crate) slot: u32,
    pub(crate) flags: u32,
    pub(crate) guest_phys_addr: u64,
    pub(crate) memory_size: u64,
    pub(crate) userspace_addr: u64,
}

/// `struct kvm_pre_fault_memory`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct PreFault {
    pub(crate) gpa: u64,
    pub(crate) size: u64,
    pub(crate) flags: u64,
    pub(crate) padding: [u64; 5],
}

/// `struct kvm_stats_header`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct StatsHeader {
    pub(crate) flags: u32,
    pub(crate) name_size: u32,
    pub(crate) num_desc: u32,
    pub(crate) id_offset: u32,
    pub(crate) desc_offset: u32,
    pub(crate) data_offset: u32,
}

/// `struct kvm_stats_desc` without its name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct StatsDescriptor {
    pub(crate) flags: u32,
    pub(crate) exponent: i16,
    pub(crate) size: u16,
    pub(crate) offset: u32,
    pub(crate) bucket_size: u32,
}

const _: () = {
    assert!(size_of::<MemoryRegion>() == 32);
    assert!(size_of::<PreFault>() == 64);
    assert!(size_of::<StatsHeader>() == 24);
    assert!(size_of::<StatsDescriptor>() == 16);
};

/// `KVMIO`.
const KVM: u8 = 0xae;

// linux/kvm.h
requests! {
    GET_API_VERSION: Number = "KVM_GET_API_VERSION", opcode::none(KVM, 0x00);
    CREATE_VM: Number = "KVM_CREATE_VM", opcode::none(KVM, 0x01);
    CHECK_EXTENSION: Number = "KVM_CHECK_EXTENSION", opcode::none(KVM, 0x03);
    CREATE_VCPU: Number = "KVM_CREATE_VCPU", opcode::none(KVM, 0x41);
    SET_USER_MEMORY_REGION: MemoryRegion = "KVM_SET_USER_MEMORY_REGION", opcode::write::<MemoryRegion>(KVM, 0x46);
    GET_STATS_FD: Number = "KVM_GET_STATS_FD", opcode::none(KVM, 0xce);
    PRE_FAULT_MEMORY: PreFault = "KVM_PRE_FAULT_MEMORY", opcode::read_write::<PreFault>(KVM, 0xd5);
}

/// `KVM_GET_API_VERSION` on `/dev/kvm`.
pub(crate) fn get_api_version(kvm: BorrowedFd<'_>) -> Result<c_int> {
    number(kvm, GET_API_VERSION, 0)
}

/// `KVM_CHECK_EXTENSION` on `/dev/kvm` or a virtual machine: whether it has a capability.
pub(crate) fn check_extension(kvm: BorrowedFd<'_>, capability: u32) -> Result<bool> {
    Ok(number(kvm, CHECK_EXTENSION, capability)? > 0)
}

/// `KVM_CREATE_VM` of the default type. The descriptor is close-on-exec (`kvm_dev_ioctl_create_vm`).
pub(crate) fn create_vm(kvm: BorrowedFd<'_>) -> Result<OwnedFd> {
    new_fd(kvm, CREATE_VM, 0)
}

/// `KVM_CREATE_VCPU`. The descriptor is close-on-exec (`create_vcpu_fd`).
pub(crate) fn create_vcpu(vm: BorrowedFd<'_>, id: u32) -> Result<OwnedFd> {
    new_fd(vm, CREATE_VCPU, id)
}

/// `KVM_GET_STATS_FD` on a virtual machine. On older kernels the descriptor is not close-on-exec.
pub(crate) fn get_stats_fd(vm: BorrowedFd<'_>) -> Result<OwnedFd> {
    new_fd(vm, GET_STATS_FD, 0)
}

/// `KVM_SET_USER_MEMORY_REGION`: makes a slot, or removes it if `memory` is `None`.
///
/// # Safety
///
/// Until the slot is removed, or all descriptors of the virtual machine are closed, its vCPUs can read
/// and write everything at these addresses of the process that made it:
/// * nothing there may be a Rust object, or be borrowed;
/// * it must stay mapped and belong to the caller, or no vCPU may run: KVM drops what is unmapped
///   (MMU notifiers), but would find what is mapped there later.
pub(crate) unsafe fn set_user_memory_region(
    vm: BorrowedFd<'_>,
    slot: u32,
    flags: u32,
    guest_address: u64,
    memory: Option<Memory>,
) -> Result<()> {
    let mut region = MemoryRegion {
        slot,
        flags,
        guest_phys_addr: guest_address,
        memory_size: memory.map_or(0, |memory| memory.size),
        userspace_addr: memory.map_or(0, |memory| memory.start.as_ptr().expose_provenance() as u64),
    };
    update(vm, SET_USER_MEMORY_REGION, &mut region)
}

/// Memory of this process, for a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) start: NonNull<u8>,
    pub(crate) size: u64,
}

/// `KVM_PRE_FAULT_MEMORY` on a vCPU: maps `[gpa, gpa + size)` in the second stage, as reads of the guest
/// would, but without any access. `range` is reduced to the remaining part, even after an error.
pub(crate) fn pre_fault_memory(vcpu: BorrowedFd<'_>, range: &mut PreFault) -> Result<()> {
    update(vcpu, PRE_FAULT_MEMORY, range)
}

/// A request that answers with a descriptor.
fn new_fd(fd: BorrowedFd<'_>, request: Request<Number>, argument: u32) -> Result<OwnedFd> {
    let fd = number(fd, request, argument)?;
    // SAFETY: the kernel has just made this descriptor for us, and nothing else owns it: callers use files
    // that have proved to be KVM's, by the API version or by a capability.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
#[path = "kvm_tests.rs"]
mod tests;
