//! Devices by their own node and an iommufd: shared address spaces, passed descriptors, and
//! conflicts.

#![allow(unsafe_code, reason = "forks")]

use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hugebar::ErrorKind;
use hugebar::iommu::{Container, Ioas, IommuKind};
use hugebar::mem::{Mapping, Window};
use hugebar::pci::{Address, Function};
use hugebar::plan::{Placement, Plan};
use hugebar::populate::Type1;
use hugebar::vfio::{Backend, Device};
use nix::unistd::ForkResult;

use crate::faults::Faults;

pub(crate) fn run(first: Address, second: Address) -> Result<()> {
    one_address_space(first, second)?;
    moved(first)?;
    handed_over(first)?;
    fails_cleanly(first)?;
    kept_from_children(first)?;
    one_at_a_time(first)?;
    served_by_iommufd(first)
}

/// Maps BAR 2 and reads a word of configuration space, to check that the device is usable.
fn check(device: &Device) -> Result<Mapping> {
    let region = device.bar(2)?.region().clone();
    let sizes = hugebar::facts::Facts::observe().leaf_sizes;
    let phys = device.phys(&region);
    let plan = Plan::new(region.layout(), phys, &sizes, Placement::Congruent)?;
    let window = Window::reserve(&plan)?;
    let mapping = Mapping::new(device, region.offset(), &plan, window, region.map_options())?;
    ensure!(mapping.expected(&sizes) == plan.best());
    device.config()?.ids()?;
    Ok(mapping)
}

fn one_address_space(first: Address, second: Address) -> Result<()> {
    let ioas = Ioas::open()?;
    let devices = [
        Device::open_on(first, &ioas)?,
        Device::open_on(second, &ioas)?,
    ];
    for device in &devices {
        ensure!(device.backend() == Some(Backend::Iommufd));
        ensure!(device.ioas().is_some_and(|own| Arc::ptr_eq(own, &ioas)));
        check(device)?;
    }
    Ok(())
}

fn moved(address: Address) -> Result<()> {
    let ioas = Ioas::open()?;
    let mut device = Device::open_on(address, &ioas)?;
    let mapping = check(&device)?;
    let sibling = ioas.sibling()?;
    ensure!(sibling.id() != ioas.id());
    drop(ioas);
    device.attach(&sibling)?;
    device.detach()?;
    device.attach(&sibling)?;
    ensure!(device.ioas().is_some_and(|own| own.id() == sibling.id()));
    let stranger = device.attach(&Ioas::open()?);
    ensure!(stranger.is_err_and(|error| error.kind() == ErrorKind::InvalidInput));
    drop(device);
    // As with groups the mapping keeps the device, not its descriptor.
    ensure!(!mapping.areas().is_empty());
    Ok(())
}

fn open(path: &std::path::Path) -> Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    Ok(file.with_context(|| path.display().to_string())?.into())
}

/// A manager opens nodes and passes them on.
fn handed_over(address: Address) -> Result<()> {
    let node = Function::at(address)?.vfio_node()?.context("a node")?;
    let iommufd = open("/dev/iommu".as_ref())?;
    let manager = Ioas::on(iommufd.try_clone()?)?;
    let ioas = Ioas::existing(iommufd, manager.id())?;
    let device = Device::bind(open(&node)?, None, &ioas)?;
    check(&device)?;
    // A bound device is passed on by its descriptor alone.
    let passed = Device::from_fd(device.as_fd().try_clone_to_owned()?, Some(address), None)?;
    ensure!(passed.backend().is_none());
    check(&passed)?;
    drop((device, passed));

    let unbound = Device::from_fd(open(&node)?, Some(address), None);
    ensure!(
        unbound.is_err(),
        "a node that is not bound yet is of no use"
    );
    let null = open("/dev/null".as_ref())?;
    ensure!(Ioas::on(null).is_err_and(|error| error.to_string().contains("iommufd?")));
    let null = open("/dev/null".as_ref())?;
    ensure!(
        Device::bind(null, None, &manager).is_err_and(|e| e.to_string().contains("VFIO device"))
    );
    Ok(())
}

/// Each call of moving a device, and of passing one on, fails once: its descriptors and address spaces go away.
fn fails_cleanly(address: Address) -> Result<()> {
    let moved = || -> hugebar::Result<()> {
        let ioas = Ioas::open()?;
        let mut device = Device::open_on(address, &ioas)?;
        let sibling = ioas.sibling()?;
        device.attach(&sibling)?;
        device.detach()
    };
    let node = Function::at(address)?.vfio_node()?.context("a node")?;
    let passed = || -> Result<()> {
        let iommufd = open("/dev/iommu".as_ref())?;
        let manager = Ioas::on(iommufd.try_clone()?)?;
        let ioas = Ioas::existing(iommufd, manager.id())?;
        let device = Device::bind(open(&node)?, Some(address), &ioas)?;
        Device::borrowed(device.as_fd(), None)?;
        Device::from_fd(device.as_fd().try_clone_to_owned()?, None, None)?;
        Ok(())
    };
    let all = [libc::EINVAL, libc::ENOMEM];
    for tally in [
        Faults::of(&all).each(moved, |_, _| Ok(()))?,
        Faults::of(&all).each(passed, |_, _| Ok(()))?,
    ] {
        ensure!(tally.failed > tally.calls, "{} failed", tally.failed);
    }
    // And the device is as good as before.
    check(&Device::open_by(address, Backend::Iommufd)?).map(drop)
}

/// A child after `fork` shares the iommufd, and must not take the address space away from its parent.
fn kept_from_children(address: Address) -> Result<()> {
    let ioas = Ioas::open()?;
    // SAFETY: this process has one thread, and the child ends at once.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            drop(ioas);
            // SAFETY: only ends the child.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None)?;
        }
    }
    check(&Device::open_on(address, &ioas)?)?;
    Ok(())
}

/// Group and node exclude each other, with a clear error.
fn one_at_a_time(address: Address) -> Result<()> {
    let taken = |result: hugebar::Result<Device>| -> Result<()> {
        let error = result.err().context("the device is taken")?;
        ensure!(error.kind() == ErrorKind::Busy, "{error}");
        ensure!(
            error
                .remedy()
                .is_some_and(|advice| advice.contains("another process")),
            "{error}"
        );
        Ok(())
    };
    let by_node = Device::open_by(address, Backend::Iommufd)?;
    taken(Device::open_by(address, Backend::Type1))?;
    taken(Device::open(address))?;
    drop(by_node);
    let by_group = Device::open_by(address, Backend::Type1)?;
    taken(Device::open_by(address, Backend::Iommufd))?;
    drop(by_group);
    let error = Device::open_by(address, Backend::NoIommu).err();
    let kind = error.context("it is unsafe")?.kind();
    ensure!(kind == ErrorKind::InvalidInput, "{kind:?}");
    let error = crate::bar::open(address, Backend::NoIommu)
        .err()
        .context("there is an IOMMU")?;
    ensure!(
        [ErrorKind::NotFound, ErrorKind::Unsupported].contains(&error.kind()),
        "{error}"
    );
    check(&Device::open(address)?)?;
    Ok(())
}

/// An iommufd that answers like a container, but cannot map device memory, is detected in advance.
fn served_by_iommufd(address: Address) -> Result<()> {
    let container = Container::from_fd(open("/dev/iommu".as_ref())?)?;
    ensure!(container.kind() == IommuKind::Iommufd);
    let device = Device::open_in(address, &container)?;
    check(&device)?;
    let error = Type1::new(&container).err().context("it cannot populate")?;
    ensure!(error.kind() == ErrorKind::NotMappableForDma, "{error}");
    // But by a dma-buf, in its own address space.
    let bar = device.map_bar(2)?;
    let mut peer = device.address_space()?.map_bar(&device, &bar)?;
    peer.renew()?;
    peer.unmap()?;
    ensure!(Container::open()?.kind() == IommuKind::Type1);
    Ok(())
}
