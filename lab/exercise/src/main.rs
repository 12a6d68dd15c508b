//! Exercises the library on a device of the virtual machine: each command is a scenario
//! that exits with 0 only if everything is as expected.

mod bar;
mod bounds;
mod carve;
mod config;
mod cost;
mod counting;
mod data;
mod decode;
mod dma;
mod dma_failures;
mod drive;
mod edu;
mod failures;
mod faults;
#[cfg(target_arch = "x86_64")]
mod firmware;
mod handover;
mod iommufd;
mod irq;
mod irq_failures;
mod killed;
mod kvm;
mod limit;
mod mapped;
mod peer;
mod pinned;
mod posing;
mod power;
mod preloaded;
mod reset;
mod reused;
mod sandbox;
mod state;
mod stuck;
#[cfg(target_arch = "x86_64")]
mod tables;
mod threads;
#[cfg(target_arch = "x86_64")]
mod touch;
#[cfg(target_arch = "x86_64")]
mod vcpu;
#[cfg(target_arch = "x86_64")]
mod watched;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command as Process;

use anyhow::{Context, Result};
use clap::Parser;
use hugebar::pci::Address;
use hugebar::vfio::Backend;
use rustix::process::{Resource, Rlimit, setrlimit};

/// Exercise the library on a device of the virtual machine
#[derive(Parser)]
enum Scenario {
    /// Carve, drop and re-make populated mappings by every public function
    Carve {
        device: Address,
        #[arg(value_parser = backend, default_value = "type1")]
        backend: Backend,
    },
    /// Read and write configuration space of QEMU's teaching device, and of a network card (e1000e)
    Config {
        device: Address,
        card: Address,
        #[arg(value_parser = backend, default_value = "type1")]
        backend: Backend,
    },
    /// Measure what mapping for DMA and unmapping cost, and count their system calls
    Cost {
        device: Address,
        #[arg(value_parser = backend, default_value = "type1")]
        backend: Backend,
        /// How often each is measured; the medians are printed
        #[arg(long, default_value_t = 1)]
        rounds: usize,
    },
    /// Measure what counting a BAR's leaves costs, beside making it present
    Counting {
        device: Address,
        #[arg(long, default_value_t = 1)]
        rounds: usize,
    },
    /// Write to a device's memory, and read what the host has written there
    Data {
        device: Address,
        #[arg(value_parser = backend, default_value = "type1")]
        backend: Backend,
    },
    /// Switch memory decode off and on under a mapping
    Decode {
        device: Address,
        #[arg(value_parser = backend, default_value = "type1")]
        backend: Backend,
    },
    /// Have QEMU's educational device move data into and out of mapped memory
    Dma {
        device: Address,
        #[arg(value_parser = backend, default_value = "type1")]
        backend: Backend,
    },
    /// Reach the limits of memory for DMA
    DmaBounds {
        device: Address,
        #[arg(value_parser = backend, default_value = "type1")]
        backend: Backend,
        /// Those of an IOMMU of 39 bits
        #[arg(long)]
        narrow: bool,
    },
    /// Write a file to an NVMe drive by the kernel's own driver, or compare it with what is there, from a block on
    Drive {
        first: u64,
        file: PathBuf,
        #[arg(long)]
        write: bool,
    },
    /// Print this process's open files whose names contain a word
    Descriptors { word: String },
    /// Switch memory decode off on a device that no process has open
    DecodeOff { device: Address },
    /// Make each system call fail once, from opening the device to counting its leaves, and of opening the second device
    /// beside it
    Failures {
        device: Address,
        second: Address,
        #[arg(value_parser = backend, default_value = "type1")]
        backend: Backend,
    },
    /// Kill the command that binds a device, and the one that restores it, at each step
    Killed { device: Address },
    /// Use descriptors from another process, and two devices in one address space
    Handover { device: Address, second: Address },
    /// Open devices by their own nodes and an iommufd
    Iommufd { device: Address, second: Address },
    /// Take interrupts of QEMU's teaching device, of a network card (e1000e) with MSI-X, and of a USB controller
    /// (nec-usb-xhci) with several MSI vectors
    Irq {
        device: Address,
        card: Address,
        controller: Address,
        #[arg(value_parser = backend, default_value = "type1")]
        backend: Backend,
    },
    /// Keep a device mapped as from a chroot jail with its own device files
    Jailed {
        device: Address,
        #[arg(long, value_parser = backend, default_value = "type1")]
        backend: Backend,
        /// Close all files of the device, so that only the mapping is left
        #[arg(long)]
        close: bool,
    },
    /// Keep devices mapped until a signal arrives
    Mapped {
        #[arg(required = true)]
        devices: Vec<Address>,
        #[arg(long, value_parser = backend, default_value = "type1")]
        backend: Backend,
        /// Close all files of the devices, so that only the mappings are left
        #[arg(long)]
        close: bool,
    },
    /// Drop a populated mapping when the kernel has no entry left for another one
    Limit { device: Address },
    /// Execute another program, with limits (in bytes) and as another user
    Limited {
        #[arg(long)]
        uid: Option<u32>,
        /// `RLIMIT_MEMLOCK`
        #[arg(long)]
        memlock: Option<u64>,
        /// `RLIMIT_AS`
        #[arg(long)]
        address_space: Option<u64>,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Execute another program with transparent huge pages disabled
    NoThp {
        /// Except for hinted memory
        #[arg(long)]
        except_advised: bool,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Execute another program with a file open at a descriptor, for appending
    Opened {
        fd: i32,
        file: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Map BARs for peer-to-peer DMA, and have one device write into another
    Peer {
        device: Address,
        edu: Address,
        memory: Address,
        #[arg(value_parser = backend, default_value = "type1")]
        backend: Backend,
    },
    /// Leave a mapping in place that the IOMMU fails to remove
    Pinned { device: Address },
    /// Map a device at an address of its own without a hint, and print how many faults that takes
    Fixed {
        device: Address,
        /// Allow no other system calls from then on
        #[arg(long)]
        allowed: Option<preloaded::Allowed>,
    },
    /// Map and unmap in eight threads beside children
    Storm {
        device: Address,
        #[arg(value_parser = backend, default_value = "type1")]
        backend: Backend,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// With the library that chooses addresses
        #[arg(long)]
        preloaded: bool,
    },
    /// Put a network card (e1000e) to sleep, and find that QEMU's teaching device has no power management
    Power {
        device: Address,
        card: Address,
        #[arg(value_parser = backend, default_value = "type1")]
        backend: Backend,
    },
    /// Reset devices: one on the root bus that cannot be, a network card (e1000e) alone behind a bridge, one that shares its
    /// bus and IOMMU group with a second function, and one on a bus with a device of another group
    Reset {
        device: Address,
        card: Address,
        first: Address,
        second: Address,
        third: Address,
        fourth: Address,
        #[arg(value_parser = backend, default_value = "type1")]
        backend: Backend,
    },
    /// Run each step with only the system calls and files that are listed for it
    Sandbox {
        device: Address,
        #[arg(value_parser = backend, default_value = "type1")]
        backend: Backend,
    },
    /// One such step
    #[command(hide = true)]
    SandboxPart {
        device: Address,
        #[arg(value_parser = backend)]
        backend: Backend,
        title: String,
        without: Option<String>,
    },
    /// Wait inside `mmap` on a FUSE file, with the address space locked, until a signal arrives
    Stuck,
    /// A process beside that one
    #[command(hide = true)]
    StuckPart { name: String },
    /// Keep plain files open and mapped that are named like device files
    Posing,
    /// Print the rows of another process's page tables that map device memory
    #[cfg(target_arch = "x86_64")]
    Tables { pid: i32 },
    /// Count leaves while threads fork, and while the kernel moves memory between nodes
    Threads { device: Address },
    /// Give a BAR to a guest that touches every 2 MiB of it
    #[cfg(target_arch = "x86_64")]
    Touch {
        device: Address,
        #[arg(long)]
        by: touch::Way,
        /// Leave out a page, as for an MSI-X table
        #[arg(long)]
        hole: bool,
    },
    /// Write firmware for QEMU that reads from a BAR
    #[cfg(target_arch = "x86_64")]
    Firmware { file: PathBuf },
    /// Let other commands inspect this process, and check its page tables
    #[cfg(target_arch = "x86_64")]
    Watched { device: Address },
    /// Count by KVM's pre-faults, and compare its own leaves with the predicted ones
    Kvm { device: Address },
}

/// Parses a backend's displayed name.
fn backend(name: &str) -> Result<Backend> {
    let all = [Backend::Type1, Backend::Iommufd, Backend::NoIommu];
    let found = all.into_iter().find(|backend| backend.to_string() == name);
    found.with_context(|| format!("no backend {name}"))
}

fn main() -> Result<()> {
    let scenario = Scenario::parse();
    let before = state::State::observe()?;
    let leaves_something = matches!(
        scenario,
        Scenario::Pinned { .. }
            | Scenario::Peer {
                backend: Backend::Type1,
                ..
            }
    );
    match scenario {
        Scenario::Carve { device, backend } => carve::run(device, backend),
        Scenario::Config {
            device,
            card,
            backend,
        } => config::run(device, card, backend),
        Scenario::Cost {
            device,
            backend,
            rounds,
        } => cost::run(device, backend, rounds),
        Scenario::Counting { device, rounds } => counting::run(device, rounds),
        Scenario::Decode { device, backend } => decode::run(device, backend),
        Scenario::DmaBounds {
            device,
            backend,
            narrow: true,
        } => bounds::narrow(device, backend),
        Scenario::DmaBounds {
            device, backend, ..
        } => bounds::run(device, backend),
        Scenario::Dma { device, backend } => {
            dma::run(device, backend)?;
            dma_failures::run(device, backend)
        }
        Scenario::Drive {
            first,
            file,
            write: true,
        } => drive::write(first, &file),
        Scenario::Drive { first, file, .. } => drive::compare(first, &file),
        Scenario::Descriptors { word } => state::print(&word),
        Scenario::DecodeOff { device } => decode::switch_off(device),
        Scenario::Mapped {
            devices,
            backend,
            close,
        } => mapped::run(&devices, backend, close),
        Scenario::Jailed {
            device,
            backend,
            close,
        } => posing::jailed(device, backend, close),
        Scenario::Posing => posing::pose(),
        Scenario::Limited {
            uid,
            memlock,
            address_space,
            command,
        } => {
            set_limit(Resource::Memlock, memlock)?;
            set_limit(Resource::As, address_space)?;
            turn_into(&command, uid)
        }
        Scenario::Data { device, backend } => data::run(device, backend),
        Scenario::Failures {
            device,
            second,
            backend,
        } => failures::run(device, second, backend),
        Scenario::Handover { device, second } => handover::run(device, second),
        Scenario::Killed { device } => killed::run(device),
        Scenario::Kvm { device } => kvm::run(device),
        Scenario::Limit { device } => limit::run(device),
        Scenario::Iommufd { device, second } => iommufd::run(device, second),
        Scenario::Irq {
            device,
            card,
            controller,
            backend,
        } => {
            irq::run(device, card, controller, backend)?;
            irq_failures::run(device, backend)
        }
        Scenario::Peer {
            device,
            edu,
            memory,
            backend,
        } => peer::run(device, edu, memory, backend),
        Scenario::Fixed { device, allowed } => preloaded::fixed(device, allowed),
        Scenario::Storm {
            device,
            backend,
            seconds,
            preloaded,
        } => preloaded::storm(device, backend, seconds, preloaded),
        Scenario::Pinned { device } => pinned::run(device),
        Scenario::Power {
            device,
            card,
            backend,
        } => power::run(device, card, backend),
        Scenario::Reset {
            device,
            card,
            first,
            second,
            third,
            fourth,
            backend,
        } => {
            reset::alone(device, card, backend)?;
            reset::together(first, second, backend)?;
            reset::together(third, fourth, backend)
        }
        Scenario::Sandbox { device, backend } => sandbox::run(device, backend),
        Scenario::SandboxPart {
            device,
            backend,
            title,
            without,
        } => sandbox::one(device, backend, &title, without.as_deref()),
        Scenario::Stuck => stuck::run(),
        Scenario::StuckPart { name } => stuck::part(&name),
        #[cfg(target_arch = "x86_64")]
        Scenario::Tables { pid } => tables::run(pid),
        Scenario::Threads { device } => threads::run(device),
        #[cfg(target_arch = "x86_64")]
        Scenario::Touch { device, by, hole } => touch::run(device, by, hole),
        #[cfg(target_arch = "x86_64")]
        Scenario::Firmware { file } => firmware::write(&file),
        #[cfg(target_arch = "x86_64")]
        Scenario::Watched { device } => watched::run(device),
        Scenario::NoThp {
            except_advised,
            command,
        } => no_thp(except_advised, &command),
        Scenario::Opened { fd, file, command } => {
            preloaded::open_at(fd, &file)?;
            turn_into(&command, None)
        }
    }?;
    if !leaves_something {
        before.unchanged()?;
    }
    println!("ok");
    Ok(())
}

/// `PR_SET_THP_DISABLE` is inherited over exec, as from a service manager or container runtime.
#[allow(unsafe_code, reason = "rustix has no flags for it")]
fn no_thp(except_advised: bool, command: &[String]) -> Result<()> {
    // `PR_THP_DISABLE_EXCEPT_ADVISED` of include/uapi/linux/prctl.h (Linux 6.18).
    let flags: libc::c_ulong = if except_advised { 1 << 1 } else { 0 };
    let (on, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: the request takes four numbers, and only changes the use of huge pages.
    let answer = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, flags, none, none) };
    if answer != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    turn_into(command, None)
}

/// Limits are inherited over exec as well.
fn set_limit(resource: Resource, bytes: Option<u64>) -> Result<()> {
    if bytes.is_none() {
        return Ok(());
    }
    let limit = Rlimit {
        current: bytes,
        maximum: bytes,
    };
    Ok(setrlimit(resource, limit)?)
}

fn turn_into(command: &[String], uid: Option<u32>) -> Result<()> {
    let (program, arguments) = command.split_first().context("a program")?;
    let mut process = Process::new(program);
    if let Some(uid) = uid {
        process.uid(uid).gid(uid);
    }
    Err(process.args(arguments).exec().into())
}
