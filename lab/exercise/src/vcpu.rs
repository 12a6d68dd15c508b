//! A virtual machine whose one CPU reads guest addresses in a loop.

#![allow(unsafe_code, reason = "KVM's requests, and memory for the guest")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

use anyhow::{Context, Result, ensure};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Requests of include/uapi/linux/kvm.h.
const CREATE_VM: libc::Ioctl = 0xae01;
const GET_VCPU_MMAP_SIZE: libc::Ioctl = 0xae04;
const GET_SUPPORTED_CPUID: libc::Ioctl = 0xc008_ae05;
const CREATE_VCPU: libc::Ioctl = 0xae41;
const SET_USER_MEMORY_REGION: libc::Ioctl = 0x4020_ae46;
const RUN: libc::Ioctl = 0xae80;
const SET_REGS: libc::Ioctl = 0x4090_ae82;
const GET_SREGS: libc::Ioctl = 0x8138_ae83;
const SET_SREGS: libc::Ioctl = 0x4138_ae84;
const SET_CPUID2: libc::Ioctl = 0x4008_ae90;

/// `exit_reason` in `struct kvm_run`, and its value after `hlt`.
const EXIT_REASON: usize = 8;
const EXIT_HLT: u32 = 5;

/// How many leaves of `cpuid` there may be, each of 40 bytes.
const CPUID_LEAVES: u32 = 256;

/// The guest's own memory, from its address 0 on.
const MEMORY: usize = 64 << 10;
/// Two page tables, which map the first 512 GiB at the same addresses by pages of 1 GiB, and the program.
const TABLE: u64 = 0x1000;
const SECOND_TABLE: u64 = 0x2000;
const CODE: u64 = 0x3000;
/// `again: mov (%rbx),%eax; add %rdx,%rbx; dec %rcx; jnz again; hlt`
const PROGRAM: [u8; 11] = [
    0x8b, 0x03, 0x48, 0x01, 0xd3, 0x48, 0xff, 0xc9, 0x75, 0xf6, 0xf4,
];

/// A virtual machine with one CPU, and its slots of memory.
pub(crate) struct Machine {
    vm: OwnedFd,
    vcpu: OwnedFd,
    /// `struct kvm_run`, shared with the kernel.
    run: Memory,
    own: Memory,
    slots: u64,
}

/// Memory of this process, unmapped at the end.
struct Memory(NonNull<u8>, usize);

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: a whole mapping that nothing refers to any more.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), self.1) };
    }
}

/// A request whose argument is a number or points to memory that is large enough for it.
///
/// # Safety
///
/// As the request requires.
unsafe fn ioctl(fd: impl AsFd, request: libc::Ioctl, argument: usize) -> io::Result<i32> {
    // SAFETY: as above.
    match unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, argument) } {
        answer if answer < 0 => Err(io::Error::last_os_error()),
        answer => Ok(answer),
    }
}

/// A request that makes a descriptor.
fn made(fd: impl AsFd, request: libc::Ioctl) -> io::Result<OwnedFd> {
    // SAFETY: these requests take a number: the kind, or the index.
    let new = unsafe { ioctl(fd, request, 0) }?;
    // SAFETY: the descriptor is new.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

impl Machine {
    pub(crate) fn new() -> Result<Self> {
        let kvm = File::options().read(true).write(true).open("/dev/kvm")?;
        let vm = made(&kvm, CREATE_VM).context("KVM_CREATE_VM")?;
        let vcpu = made(&vm, CREATE_VCPU).context("KVM_CREATE_VCPU")?;
        // SAFETY: the request takes nothing.
        let size = unsafe { ioctl(&kvm, GET_VCPU_MMAP_SIZE, 0) }?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let (null, size) = (ptr::null_mut(), usize::try_from(size)?);
        // SAFETY: replaces nothing.
        let run = unsafe { mmap(null, size, access, MapFlags::SHARED, &vcpu, 0) }?;
        let run = Memory(NonNull::new(run.cast()).context("an address")?, size);
        // SAFETY: replaces nothing.
        let own = unsafe { mmap_anonymous(null, MEMORY, access, MapFlags::PRIVATE) }?;
        let own = Memory(NonNull::new(own.cast()).context("an address")?, MEMORY);
        fill(own.0)?;
        let mut machine = Self {
            vm,
            vcpu,
            run,
            own,
            slots: 0,
        };
        machine.processor(&kvm)?;
        let start = machine.own.0;
        // SAFETY: it is unmapped after the descriptors are closed, as fields are dropped in their order.
        unsafe { machine.add(0, start, MEMORY as u64) }?;
        Ok(machine)
    }

    /// Gives the guest memory.
    ///
    /// # Safety
    ///
    /// It has to stay mapped as long as the machine.
    pub(crate) unsafe fn add(&mut self, guest: u64, start: NonNull<u8>, size: u64) -> Result<()> {
        let region = [self.slots, guest, size, start.addr().get() as u64];
        // SAFETY: `struct kvm_userspace_memory_region`: slot and flags, and three numbers; the memory stays.
        unsafe { ioctl(&self.vm, SET_USER_MEMORY_REGION, region.as_ptr().addr()) }
            .context("KVM_SET_USER_MEMORY_REGION")?;
        self.slots += 1;
        Ok(())
    }

    pub(crate) fn vm(&self) -> BorrowedFd<'_> {
        self.vm.as_fd()
    }

    /// Has the guest read a number of addresses, each behind the last one by the same distance.
    pub(crate) fn read(&self, from: u64, distance: u64, count: u64) -> Result<()> {
        let (mut registers, flags) = ([0_u64; 18], 2);
        // rbx, rcx, rdx; rip and rflags.
        (registers[1], registers[2], registers[3]) = (from, count, distance);
        (registers[16], registers[17]) = (CODE, flags);
        // SAFETY: `struct kvm_regs` has 18 numbers.
        unsafe { ioctl(&self.vcpu, SET_REGS, registers.as_ptr().addr()) }
            .context("KVM_SET_REGS")?;
        // SAFETY: the request takes nothing. The guest only reads.
        unsafe { ioctl(&self.vcpu, RUN, 0) }.context("KVM_RUN")?;
        // SAFETY: within the structure, which is aligned to pages.
        let reason = unsafe { self.run.0.add(EXIT_REASON) }.cast::<u32>();
        // SAFETY: as above.
        let reason = unsafe { reason.read_volatile() };
        ensure!(reason == EXIT_HLT, "the guest left with reason {reason}");
        Ok(())
    }

    /// The processor with all that KVM supports, in 64-bit mode.
    fn processor(&self, kvm: &File) -> Result<()> {
        let mut cpuid = vec![0_u32; 2 + 10 * CPUID_LEAVES as usize];
        cpuid[0] = CPUID_LEAVES;
        // SAFETY: `struct kvm_cpuid2` with room for as many leaves.
        unsafe { ioctl(kvm, GET_SUPPORTED_CPUID, cpuid.as_mut_ptr().addr()) }
            .context("KVM_GET_SUPPORTED_CPUID")?;
        // SAFETY: the same structure.
        unsafe { ioctl(&self.vcpu, SET_CPUID2, cpuid.as_ptr().addr()) }
            .context("KVM_SET_CPUID2")?;
        // `struct kvm_sregs`: eight segments of 24 bytes, two tables of 16 bytes, cr0, cr2, cr3, cr4, cr8, efer, and more.
        let mut registers = [0_u64; 39];
        // SAFETY: the structure has 312 bytes.
        unsafe { ioctl(&self.vcpu, GET_SREGS, registers.as_mut_ptr().addr()) }
            .context("KVM_GET_SREGS")?;
        // A segment: base; limit, selector, type and present; dpl, db, s, l and g, a byte each.
        let segment = |kind: u64, long: u64| {
            let limit = 0xffff_ffff;
            let second = limit | 8 << 32 | kind << 48 | 1 << 56;
            let third = (1 - long) << 8 | 1 << 16 | long << 24 | 1 << 32;
            [0, second, third]
        };
        registers[..3].copy_from_slice(&segment(0xb, 1));
        for data in registers[3..18].chunks_exact_mut(3) {
            data.copy_from_slice(&segment(0x3, 0));
        }
        let (paging, physical_extensions, long_mode) = (0x8000_0011, 0x20, 0x500);
        registers[28] = paging;
        registers[30] = TABLE;
        registers[31] = physical_extensions;
        registers[33] = long_mode;
        // SAFETY: the same structure.
        unsafe { ioctl(&self.vcpu, SET_SREGS, registers.as_ptr().addr()) }
            .context("KVM_SET_SREGS")?;
        Ok(())
    }
}

/// Writes page tables and the program into the guest's memory.
fn fill(memory: NonNull<u8>) -> Result<()> {
    let (present, large) = (0x3, 0x80);
    let tables = (0..512).map(|gib: u64| (SECOND_TABLE + 8 * gib, gib << 30 | large | present));
    for (at, entry) in tables.chain([(TABLE, SECOND_TABLE | present)]) {
        // SAFETY: within the memory, and aligned.
        let place = unsafe { memory.add(usize::try_from(at)?) }.cast::<u64>();
        // SAFETY: as above.
        unsafe { place.write(entry) };
    }
    // SAFETY: within the memory.
    let code = unsafe { memory.add(usize::try_from(CODE)?) };
    // SAFETY: as above, and apart from the program.
    unsafe { code.copy_from_nonoverlapping(NonNull::from(&PROGRAM).cast(), PROGRAM.len()) };
    Ok(())
}
