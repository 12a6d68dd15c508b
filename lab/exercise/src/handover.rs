//! Descriptors from another process, and several devices in one address space.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use anyhow::{Result, ensure};
use hugebar::ErrorKind;
use hugebar::facts::Facts;
use hugebar::iommu::Container;
use hugebar::leaf::GIB;
use hugebar::pci::Address;
use hugebar::phys::Phys;
use hugebar::plan::Placement;
use hugebar::vfio::Device;

use crate::bar::Bar;

pub(crate) fn run(first: Address, second: Address) -> Result<()> {
    handed_over(first)?;
    shared_container(first, second)?;
    from_several_threads(first)
}

/// The descriptors that a manager or jailer opens and passes on: the device's and the container's.
fn handed_over(address: Address) -> Result<()> {
    let manager = Device::open(address)?;
    let device_fd = manager.as_fd().try_clone_to_owned()?;
    let container_fd = manager.container().map(|c| c.as_fd().try_clone_to_owned());
    let container = container_fd
        .transpose()?
        .map(Container::from_fd)
        .transpose()?;
    let device = Device::from_fd(device_fd, None, container)?;
    ensure!(device.address().is_none() && device.phys(device.bar(2)?.region()) == Phys::Natural);
    let mut bar = Bar::of(device)?;
    let mapping = bar.map(&bar.plan(&[], Placement::Congruent)?)?;
    bar.check(&mapping)?;

    // A file that is not a VFIO device is detected.
    let null = std::fs::File::open("/dev/null")?;
    let error = Device::from_fd(null.into(), Some(address), None);
    ensure!(error.is_err_and(|error| error.to_string().contains("VFIO device?")));
    let null = std::fs::File::open("/dev/null")?;
    ensure!(Container::from_fd(null.into()).is_err());
    Ok(())
}

fn shared_container(first: Address, second: Address) -> Result<()> {
    let container = Container::open()?;
    let one = Device::open_in(first, &container)?;
    let two = Device::open_in(second, &container)?;
    ensure!(one.group() != two.group());
    let same = |device: &Device| {
        device
            .container()
            .is_some_and(|c| Arc::ptr_eq(c, &container))
    };
    ensure!(same(&one) && same(&two));
    for device in [one, two] {
        let mut bar = Bar::of(device)?;
        let mapping = bar.map(&bar.plan(&[], Placement::Congruent)?)?;
        bar.check(&mapping)?;
    }
    // All groups are closed, and the container can be used again.
    let again = Device::open_in(first, &container)?;
    // A group has one owner: another container cannot have its device.
    let error = Device::open(first);
    ensure!(error.is_err_and(|error| error.kind() == ErrorKind::Busy));
    // In the same container it is the same group, opened twice.
    let twice = Device::open_in(first, &container)?;
    ensure!(twice.group() == again.group());
    Ok(())
}

/// One container serves several threads: two open the device, map it and populate their mappings, repeatedly
/// and at the same time. The last to close it closes the group.
fn from_several_threads(address: Address) -> Result<()> {
    let container = Container::open()?;
    let work = || -> Result<()> {
        // Before huge leaves each of them takes a second.
        let times = if Facts::observe().device_leaf_sizes().largest() < GIB {
            4
        } else {
            20
        };
        for _ in 0..times {
            let mut bar = Bar::of(Device::open_in(address, &container)?)?;
            let mapping = bar.map(&bar.plan(&[], Placement::Congruent)?)?;
            bar.check(&mapping)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        let ends = threads.map(|thread| thread.join());
        ends.into_iter().try_for_each(|end| match end {
            Ok(result) => result,
            Err(_) => anyhow::bail!("a thread panicked"),
        })
    })
}
