//! Each system call fails once, from opening the device to counting its leaves, and nothing is lost.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use hugebar::iommu::{Container, Ioas};
use hugebar::layout::Area;
use hugebar::pci::Address;
use hugebar::plan::Placement;
use hugebar::vfio::{Backend, Device};

use crate::bar::{self, Bar};
use crate::faults::{Failed, Faults};

/// Opens, maps with a hole, counts, maps again, and closes.
fn journey(address: Address, backend: Backend) -> Result<()> {
    let mut bar = Bar::of(bar::open(address, backend)?)?;
    // About one leaf of each size, to keep the calls few.
    let few = bar.facts.leaf_sizes.largest() + bar::page();
    let holes = [Area::new(few, bar.region.size() - few)];
    let plan = bar.plan(&holes, Placement::Congruent)?;
    let mapping = bar.map(&plan)?;
    bar.check(&mapping)?;
    let window = mapping.into_window()?;
    let mapping = bar.map_in(&plan, window)?;
    bar.check(&mapping)?;
    Ok(())
}

pub(crate) fn run(address: Address, second: Address, backend: Backend) -> Result<()> {
    match backend {
        Backend::Type1 => {
            of_a_descriptor()?;
            in_a_container(address, second)?;
        }
        Backend::Iommufd => in_an_iommufd(address)?,
        Backend::NoIommu => (),
    }
    // What munmap refuses to unmap cannot be unmapped, and what the IOMMU still refers to must not be.
    let tally = Faults::of(&[libc::ENOMEM, libc::EINVAL])
        .sparing(&["munmap", "VFIO_IOMMU_UNMAP_DMA"])
        .each(|| journey(address, backend), |_, _| Ok(()))?;
    // And the device is as good as before.
    journey(address, backend)?;
    ensure!(tally.failed > tally.calls / 2, "most failures are errors");
    Ok(())
}

/// A container made of a descriptor, which is closed if that fails.
fn of_a_descriptor() -> Result<()> {
    let work = || -> Result<()> {
        let mut options = File::options();
        let node = options.read(true).write(true).open("/dev/vfio/vfio")?;
        Container::from_fd(node.into())?;
        Ok(())
    };
    Faults::of(&[libc::EINVAL, libc::EBADF]).each(work, |failed, result| match result {
        // Only an iommufd knows this request, so its failure means that the file is none.
        Ok(()) => {
            ensure!(failed.name == "IOMMU_VFIO_IOAS", "not told");
            Ok(())
        }
        Err(error) => told(failed, error.downcast_ref().context("an error of ours")?),
    })?;
    Ok(())
}

/// Devices opened in a container that stays open, empty or with a device: it keeps no group that was not opened, and the
/// other device is not disturbed.
fn in_a_container(address: Address, second: Address) -> Result<()> {
    let container = Container::open()?;
    let open = |address| Device::open_in(address, &container);
    let errnos = [libc::EINVAL, libc::EPERM];
    for other in [None, Some(second)] {
        let other = other.map(open).transpose()?;
        let check = |failed: &Failed<'_>, result: &hugebar::Result<Device>| {
            if let Some(other) = &other {
                ensure!(!other.address_space()?.iova_ranges()?.is_empty());
            }
            let Err(error) = result else { return Ok(()) };
            // A container that does not answer is taken for one without an IOMMU, and then it is given one.
            if failed.name != "VFIO_IOMMU_GET_INFO" {
                told(failed, error)?;
            }
            drop(open(address)?);
            Ok(())
        };
        let tally = Faults::of(&errnos).each(|| open(address), check)?;
        ensure!(tally.failed >= 10, "{} failures", tally.failed);
    }
    Ok(())
}

/// The same in an address space of an iommufd, and moving the device to another one and out of both.
fn in_an_iommufd(address: Address) -> Result<()> {
    let ioas = Ioas::open()?;
    let sibling = ioas.sibling()?;
    let work = || -> hugebar::Result<()> {
        let mut device = Device::open_on(address, &ioas)?;
        device.attach(&sibling)?;
        device.detach()?;
        device.attach(&ioas)
    };
    let check = |failed: &Failed<'_>, result: &hugebar::Result<()>| {
        if let Err(error) = result {
            told(failed, error)?;
        }
        // No device is left in it.
        Ok(work()?)
    };
    let tally = Faults::of(&[libc::EINVAL, libc::EPERM]).each(work, check)?;
    ensure!(tally.failed >= 10, "{} failures", tally.failed);
    Ok(())
}

/// The error is that of the call which failed.
fn told(failed: &Failed<'_>, error: &hugebar::Error) -> Result<()> {
    let name = error.operation().contains(failed.name);
    ensure!(name && error.errno() == Some(failed.errno), "{error}");
    Ok(())
}
