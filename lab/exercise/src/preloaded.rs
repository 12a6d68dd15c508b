//! Programs that map devices without hugebar, to be run by `hugebar run`. They open the device with the library, and call
//! libc's `mmap` themselves.

#![allow(unsafe_code, reason = "calls mmap as such programs do")]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::process::Command;
use std::ptr::{self, NonNull};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hugebar::iommu::DmaAccess;
use hugebar::pci::Address;
use hugebar::vfio::{Backend, Device};
use libc::{MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_NONE};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::sandbox;

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
const ACCESS: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// The system calls of [`fixed`] once it has opened the device.
const OWN: [&str; 7] = [
    "mmap",
    "munmap",
    "getpid",
    "getrusage",
    "VFIO_IOMMU_GET_INFO",
    "VFIO_IOMMU_MAP_DMA",
    "VFIO_IOMMU_UNMAP_DMA",
];

/// And those that the preloaded library makes for a device.
const LIBRARY: [&str; 3] = ["fstat", "readlink", "madvise"];

/// Which system calls are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Allowed {
    /// Those of the program.
    Own,
    /// Those of the program and of the library.
    Both,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    address: usize,
    length: usize,
    protection: i32,
    flags: i32,
    fd: RawFd,
    offset: u64,
}

/// Is in `errno` before a call, and after one that succeeds: an error that no `mmap` has.
const UNTOUCHED: i32 = libc::ECANCELED;

/// The error if a call that succeeds has changed `errno`; needs no memory, for children after `fork`.
const CHANGED: io::ErrorKind = io::ErrorKind::InvalidData;

fn map(request: Request) -> io::Result<usize> {
    let offset = libc::off_t::try_from(request.offset).map_err(io::Error::other)?;
    // SAFETY: libc returns the address of this thread's own variable.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *errno = UNTOUCHED };
    // SAFETY: new mappings, or over addresses that the caller has reserved.
    let mapped = unsafe {
        libc::mmap(
            ptr::without_provenance_mut(request.address),
            request.length,
            request.protection,
            request.flags,
            request.fd,
            offset,
        )
    };
    match mapped {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        mapped if io::Error::last_os_error().raw_os_error() == Some(UNTOUCHED) => Ok(mapped.addr()),
        _ => Err(CHANGED.into()),
    }
}

pub(crate) fn unmap(address: usize, length: usize) -> io::Result<()> {
    // SAFETY: a whole mapping that the caller has made and that nothing uses.
    match unsafe { libc::munmap(ptr::without_provenance_mut(address), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reserves addresses, and finds a multiple of a power of two in them.
fn reserve(length: usize, multiple: usize) -> io::Result<(usize, usize, usize)> {
    let request = Request {
        address: 0,
        length: length + multiple,
        protection: PROT_NONE,
        flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
        fd: -1,
        offset: 0,
    };
    let start = map(request)?;
    Ok((start, request.length, start.next_multiple_of(multiple)))
}

/// Maps a part of a device as Cloud Hypervisor does (`MmapRegion::mmap` of `pci/src/mmap.rs`): at a multiple of the next power of
/// two of its length, at most of 1 GiB, wherever it begins in the region, and without a hint.
pub(crate) fn as_cloud_hypervisor(
    fd: impl AsFd,
    offset: u64,
    length: usize,
) -> io::Result<NonNull<u8>> {
    let multiple = length.next_power_of_two().clamp(4096, GIB);
    let (start, reserved, at) = reserve(length, multiple)?;
    let behind = at + length;
    for (part, length) in [(start, at - start), (behind, start + reserved - behind)] {
        if length > 0 {
            unmap(part, length)?;
        }
    }
    let mapped = map(Request {
        address: at,
        length,
        protection: ACCESS,
        flags: MAP_SHARED | MAP_FIXED,
        fd: fd.as_fd().as_raw_fd(),
        offset,
    })?;
    NonNull::new(ptr::without_provenance_mut(mapped)).ok_or(io::ErrorKind::AddrNotAvailable.into())
}

/// Maps BAR 2 as Cloud Hypervisor does, at an address of its own and without a hint, and prints how many faults it takes to
/// have it in the IOMMU.
pub(crate) fn fixed(address: Address, allowed: Option<Allowed>) -> Result<()> {
    let device = Device::open_by(address, Backend::Type1)?;
    let region = device.region(2)?.context("BAR 2")?;
    let space = device.address_space()?;
    let length = usize::try_from(region.size())?;
    // The same way once before: the first time costs faults and system calls of its own.
    let scratch = Request {
        address: 0,
        length: 4096,
        protection: ACCESS,
        flags: MAP_PRIVATE | MAP_ANONYMOUS,
        fd: -1,
        offset: 0,
    };
    let page = NonNull::new(ptr::without_provenance_mut(map(scratch)?)).context("an address")?;
    // SAFETY: the page stays until the process ends.
    unsafe { space.map_raw(page, 4096, DmaAccess::ReadWrite, u64::MAX) }?.unmap()?;
    println!("opened");
    let list = match allowed {
        None => Vec::new(),
        Some(Allowed::Own) => OWN.to_vec(),
        Some(Allowed::Both) => [&OWN[..], &LIBRARY].concat(),
    };
    if !list.is_empty() {
        let list: Vec<_> = list.into_iter().map(str::to_owned).collect();
        sandbox::allow_only(&list)?;
    }
    let start = as_cloud_hypervisor(&device, region.offset(), length)?;
    faults()?;
    let before = faults()?;
    // SAFETY: the mapping stays until the process ends.
    let in_iommu = unsafe { space.map_raw(start, region.size(), DmaAccess::ReadWrite, u64::MAX) }?;
    println!("{} faults", faults()? - before);
    in_iommu.unmap()?;
    io::stdout().flush()?;
    // SAFETY: ends the process without running anything else, which the list does not allow.
    unsafe { libc::_exit(0) }
}

/// Opens a file at a descriptor that is inherited over exec.
pub(crate) fn open_at(fd: RawFd, path: &Path) -> Result<()> {
    let file = File::options().append(true).create(true).open(path)?;
    // SAFETY: nothing of this process uses the number.
    let made = unsafe { libc::dup2(file.as_raw_fd(), fd) };
    ensure!(made == fd, io::Error::last_os_error());
    Ok(())
}

/// The minor faults of this thread.
fn faults() -> Result<u64> {
    // SAFETY: all zeroes are a valid structure.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills in the structure.
    let answer = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    ensure!(answer == 0, "getrusage");
    Ok(u64::try_from(usage.ru_minflt)?)
}

/// Maps and unmaps device, file and anonymous memory in eight threads, beside children that are forked and executed, and checks
/// each mapping in `/proc/self/maps`.
pub(crate) fn storm(
    address: Address,
    backend: Backend,
    seconds: u64,
    preloaded: bool,
) -> Result<()> {
    let device = Device::open_by(address, backend)?;
    let region = device.region(2)?.context("BAR 2")?;
    let (size, offset) = (usize::try_from(region.size())?, region.offset());
    let file = memfd_create("storm", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, 64 << 20)?;
    let (device_fd, file_fd) = (device.as_fd().as_raw_fd(), file.as_raw_fd());
    let free = |length: usize, flags, fd, offset| Request {
        address: 0,
        length,
        protection: ACCESS,
        flags,
        fd,
        offset,
    };
    let requests = [
        free(size, MAP_SHARED, device_fd, offset),
        free(64 * MIB, MAP_SHARED, file_fd, 0),
        free(3 * MIB, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
        free(GIB + 2 * MIB, MAP_SHARED, device_fd, offset + 0x7000),
        free(MIB, MAP_SHARED, device_fd, offset + 0x5000),
        free(8 * MIB, MAP_PRIVATE, file_fd, 0x3000),
        free(3 * MIB, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
    ];
    errors(&requests[0])?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mapped, children) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 0..8 {
            let (requests, mapped) = (&requests, &mapped);
            threads.push(scope.spawn(move || -> Result<()> {
                // Each kind once, however slow the machine is.
                for (done, request) in requests.iter().cycle().skip(number).enumerate() {
                    if done >= requests.len() && Instant::now() >= end {
                        break;
                    }
                    one(*request, preloaded && request.fd == device_fd)?;
                    mapped.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        threads.push(scope.spawn(|| -> Result<()> {
            loop {
                forked(requests[0])?;
                let status = Command::new("/proc/self/exe")
                    .args(["descriptors", "nothing"])
                    .output()?
                    .status;
                ensure!(status.success(), "{status}");
                children.fetch_add(2, Ordering::Relaxed);
                if Instant::now() >= end {
                    return Ok(());
                }
            }
        }));
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("a thread"))
    })?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for area in maps.lines().filter_map(Area::of) {
        let kept = area.access == "---p" && area.end - area.start >= GIB;
        ensure!(!kept, "left behind: {area:?}");
        ensure!(!area.name.contains("vfio"), "left behind: {area:?}");
    }
    let (mapped, children) = (mapped.into_inner(), children.into_inner());
    ensure!(mapped >= 56 && children >= 2, "{mapped}, {children}");
    println!("{mapped} mappings, {children} children");
    Ok(())
}

/// Failures have the kernel's error.
fn errors(whole: &Request) -> Result<()> {
    let beyond = Request {
        length: whole.length + 2 * MIB,
        ..*whole
    };
    let crooked = Request {
        offset: whole.offset + 1,
        ..*whole
    };
    let too_large = Request {
        length: usize::MAX,
        ..*whole
    };
    for (wrong, expected) in [
        (beyond, libc::EINVAL),
        (crooked, libc::EINVAL),
        (too_large, libc::ENOMEM),
    ] {
        let error = map(wrong).err().and_then(|error| error.raw_os_error());
        ensure!(error == Some(expected), "{wrong:x?}: {error:?}");
    }
    Ok(())
}

/// Is written by a thread that reads `/proc/self/maps`, and read by those that map and unmap.
///
/// Linux reads an area again and again while another thread removes it (`lock_next_vma`, 6.17 to 7.3), and does not let go of
/// the CPU where `CONFIG_PREEMPT_RCU` is off. As many such readers as CPUs wait forever for a thread that gets none.
static MAPS: RwLock<()> = RwLock::new(());

/// Maps, checks, and unmaps.
fn one(request: Request, congruent: bool) -> Result<()> {
    let changing = || MAPS.read().expect("no thread panics with it");
    let mapped = {
        let _changing = changing();
        map(request)?
    };
    let maps = {
        let _reading = MAPS.write().expect("no thread panics with it");
        fs::read_to_string("/proc/self/maps")?
    };
    let checked = check(&maps, mapped, &request);
    {
        let _changing = changing();
        unmap(mapped, request.length)?;
    }
    checked.with_context(|| format!("{request:x?} at {mapped:#x} in\n{maps}"))?;
    if congruent && request.length >= 2 * MIB {
        let leaf = if request.length >= 2 * GIB {
            GIB
        } else {
            2 * MIB
        };
        let (mapped, leaf) = (mapped as u64, leaf as u64);
        ensure!(
            mapped % leaf == request.offset % leaf,
            "{request:x?} at {mapped:#x}"
        );
    }
    Ok(())
}

/// A range in `/proc/self/maps`.
#[derive(Debug)]
struct Area<'a> {
    start: usize,
    end: usize,
    access: &'a str,
    offset: u64,
    name: &'a str,
}

impl<'a> Area<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        Some(Self {
            start: usize::from_str_radix(start, 16).ok()?,
            end: usize::from_str_radix(end, 16).ok()?,
            access: words.next()?,
            offset: u64::from_str_radix(words.next()?, 16).ok()?,
            name: words.nth(2).unwrap_or_default(),
        })
    }
}

/// Whether the addresses have what was asked for. Neighbours of the same kind appear as one range.
fn check(maps: &str, mapped: usize, request: &Request) -> Result<()> {
    let anonymous = request.flags & MAP_ANONYMOUS != 0;
    let shared = request.flags & MAP_SHARED != 0;
    let name = match (anonymous, shared) {
        (true, true) => "/dev/zero",
        (true, false) => "",
        // `/proc` has the name of the descriptor's own link.
        (false, _) => &fs::read_link(format!("/proc/self/fd/{}", request.fd))?
            .display()
            .to_string(),
    };
    let end = mapped + request.length;
    let mut at = mapped;
    let areas = maps.lines().filter_map(Area::of);
    for area in areas.filter(|area| area.end > mapped && area.start < end) {
        let access = if shared { "rw-s" } else { "rw-p" };
        ensure!(area.access == access, "{area:?}");
        ensure!(area.start <= at, "a gap before {area:?}");
        ensure!(name.starts_with(area.name), "{area:?} is not {name}");
        if !anonymous {
            let expected = request.offset + at as u64 - mapped as u64;
            ensure!(
                area.offset + (at - area.start) as u64 == expected,
                "{area:?}"
            );
        }
        at = area.end;
    }
    ensure!(at >= end, "a gap from {at:#x} on");
    Ok(())
}

/// A child of this process with its threads maps the device too.
fn forked(request: Request) -> Result<()> {
    // SAFETY: the child makes two system calls, and ends.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            let status = waitpid(child, None)?;
            ensure!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
        }
        ForkResult::Child => {
            let mapped = map(request).and_then(|mapped| unmap(mapped, request.length));
            // SAFETY: ends the process without running anything of it.
            unsafe { libc::_exit(i32::from(mapped.is_err())) }
        }
    }
    Ok(())
}
