//! A virtual machine that never runs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::guest::Slot;
use crate::layout::Area;
use crate::leaf::{GIB, Leaves};
use crate::mem::{Mapping, Span};
use crate::sys::kvm::{self, PreFault};
use crate::sys::{file, process};

use super::prefault::{fill, prefault};
use super::slots::GuestMemory;
use super::stats::second_stage;

const NODE: &str = "/dev/kvm";

/// What to do if it is not there: on other architectures it would be of no use.
const ABSENT: &str = if cfg!(target_arch = "x86_64") {
    "load the module kvm_intel or kvm_amd"
} else {
    UNABLE
};

/// Where KVM can pre-fault (`KVM_GENERIC_PRE_FAULT_MEMORY` of Linux's `arch/*/kvm/Kconfig`, up to 7.3).
const UNABLE: &str = "only KVM of x86-64 (from Linux 6.11 on, with nested paging) and of s390 can populate, none of arm64";

/// Guest address of [`crate::populate::Prefault`]'s spans: above x86's special ranges below 4 GiB, and within
/// a vCPU's default of 36 bits.
const SCRATCH: u64 = 4 * GIB;

/// `/dev/kvm`, of the only API version and able to pre-fault.
#[derive(Debug)]
pub(crate) struct Kvm(OwnedFd);

impl Kvm {
    /// Opens `/dev/kvm`.
    pub(crate) fn open() -> Result<Self> {
        let fd = file::open_read_write(Path::new(NODE)).map_err(|errno| {
            let error = Error::call("open", errno).on(NODE);
            match errno {
                Errno::NOENT | Errno::NODEV | Errno::NXIO => error.with_remedy(ABSENT),
                Errno::ACCESS | Errno::PERM => error.with_remedy("this process may not use KVM"),
                _ => error,
            }
        })?;
        Self::check(fd)
    }

    /// Takes a descriptor of `/dev/kvm` and makes it close-on-exec (`fcntl`).
    pub(crate) fn from_fd(fd: OwnedFd) -> Result<Self> {
        process::close_on_exec(fd.as_fd()).map_err(|errno| Error::call("fcntl", errno).on(NODE))?;
        Self::check(fd)
    }

    fn check(fd: OwnedFd) -> Result<Self> {
        let refused = |name| move |errno| Error::call(name, errno).on(NODE);
        let version =
            kvm::get_api_version(fd.as_fd()).map_err(refused(kvm::GET_API_VERSION.name))?;
        if version != kvm::API_VERSION {
            let operation = format!("KVM API version {version} is unknown");
            return Err(Error::new(ErrorKind::Unsupported, operation).on(NODE));
        }
        let able = kvm::check_extension(fd.as_fd(), kvm::CAP_PRE_FAULT_MEMORY)
            .map_err(refused(kvm::CHECK_EXTENSION.name))?;
        if !able {
            let operation = "this KVM cannot populate (KVM_CAP_PRE_FAULT_MEMORY)";
            return Err(Error::new(ErrorKind::Unsupported, operation)
                .on(NODE)
                .with_remedy(UNABLE));
        }
        Ok(Self(fd))
    }

    /// Makes a new virtual machine with one vCPU.
    pub(crate) fn guest(&self) -> Result<Guest> {
        let refused = |name| move |errno| Error::call(name, errno).on(NODE);
        let vm = loop {
            match kvm::create_vm(self.0.as_fd()) {
                Err(Errno::INTR) => {}
                other => break other.map_err(refused(kvm::CREATE_VM.name))?,
            }
        };
        let vcpu = kvm::create_vcpu(vm.as_fd(), 0).map_err(refused(kvm::CREATE_VCPU.name))?;
        let memory = GuestMemory::new(vm);
        Ok(Guest { vcpu, memory })
    }
}

/// A virtual machine that has memory but never runs: shows which leaves KVM installs for mappings.
///
/// Belongs to the process that made it: in a child after `fork` KVM refuses it (EIO).
#[derive(Debug)]
pub struct Guest {
    // Dropped first: it keeps the machine open.
    vcpu: OwnedFd,
    memory: GuestMemory,
}

impl Guest {
    /// Makes one (`/dev/kvm`, `KVM_CREATE_VM`, `KVM_CREATE_VCPU`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] without KVM, [`ErrorKind::PermissionDenied`],
    /// [`ErrorKind::Unsupported`] if KVM cannot pre-fault.
    pub fn new() -> Result<Self> {
        Kvm::open()?.guest()
    }

    /// Makes one from an open descriptor of `/dev/kvm`.
    ///
    /// # Errors
    ///
    /// As [`Guest::new`], and any error of the ioctls on a wrong file.
    pub fn from_fd(kvm: OwnedFd) -> Result<Self> {
        Kvm::from_fd(kvm)?.guest()
    }

    /// Gives a mapping to the guest, with region offset 0 at guest address `address`
    /// (`KVM_SET_USER_MEMORY_REGION` for each of its slots, which are returned), and keeps the mapping.
    ///
    /// `exclude` is as for [`Mapping::slots`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] if another slot overlaps, [`ErrorKind::InvalidInput`] for an
    /// address that is not page-aligned or has too little room above it. No slot is added then.
    pub fn add(
        &mut self,
        mapping: &Arc<Mapping>,
        exclude: &[Area],
        address: u64,
    ) -> Result<Vec<Slot>> {
        self.memory.add(mapping, exclude, address)
    }

    /// Populates the second stage for `len` bytes at a guest address, as [`prefault`] does.
    ///
    /// # Errors
    ///
    /// As [`prefault`].
    pub fn prefault(&self, address: u64, len: u64) -> Result<()> {
        prefault(&self.vcpu, address, len)
    }

    /// Counts the leaves in the second stage, as [`second_stage`] does.
    ///
    /// # Errors
    ///
    /// As [`second_stage`].
    pub fn leaves(&self) -> Result<Leaves> {
        second_stage(&self.memory)
    }

    /// Populates a span temporarily, and returns how long that took. Also returns the machine, unless a part
    /// of the span is left in it.
    pub(crate) fn pass_through(self, span: &Span<'_>) -> (Option<Self>, Result<Duration>) {
        // Congruent with the process's address, so that KVM needs one step per leaf.
        let address = SCRATCH + span.start().addr().get() as u64 % GIB;
        let Self { vcpu, memory } = self;
        let (memory, elapsed) = memory.lend(span, address, || {
            let mut range = PreFault {
                gpa: address,
                size: span.bytes(),
                ..PreFault::default()
            };
            let begin = Instant::now();
            fill(vcpu.as_fd(), &mut range)?;
            Ok(begin.elapsed())
        });
        (memory.map(|memory| Self { vcpu, memory }), elapsed)
    }
}
