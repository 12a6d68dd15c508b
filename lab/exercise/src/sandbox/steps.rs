//! The steps, each with its preparation.

use std::any::Any;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hugebar::bar::Bar;
use hugebar::dma::DmaBuffer;
use hugebar::facts;
use hugebar::facts::Facts;
use hugebar::pci::Address;
use hugebar::populate::{Prefault, Type1, install};
use hugebar::vfio::{Backend, Device, IrqKind};

/// Work under a filter, which returns its result.
type Work = Box<dyn FnOnce() -> Result<Box<dyn Any>>>;

/// One step.
pub(super) struct Step {
    /// The heading in the document.
    pub(super) title: &'static str,
    /// The backends that it runs with.
    pub(super) backends: &'static [Backend],
    /// Prepares the step.
    pub(super) prepare: Prepare,
}

type Prepare = fn(Address, Backend) -> Result<Work>;

/// A step that needs the same with both backends.
const fn by_both(title: &'static str, prepare: Prepare) -> Step {
    Step {
        title,
        backends: &[Backend::Type1, Backend::Iommufd],
        prepare,
    }
}

const fn by_type1(title: &'static str, prepare: Prepare) -> Step {
    Step {
        title,
        backends: &[Backend::Type1],
        prepare,
    }
}

const fn by_iommufd(title: &'static str, prepare: Prepare) -> Step {
    Step {
        title,
        backends: &[Backend::Iommufd],
        prepare,
    }
}

/// In the order of the document.
pub(super) const STEPS: [Step; 29] = [
    by_type1("Opening a device by type1", open),
    by_iommufd("Opening a device by iommufd", open),
    by_both("Taking a device that is open", |device, backend| {
        let device = Device::open_by(device, backend)?;
        let address = device.address();
        // The lender keeps it for good.
        let device: &'static Device = Box::leak(Box::new(device));
        work(move || Ok(Device::borrowed(device.as_fd(), address)?))
    }),
    by_both("Asking for regions", |device, backend| {
        let device = Device::open_by(device, backend)?;
        work(move || {
            let _ = device.bar(2)?;
            let regions = device.regions().into_iter();
            let regions: Vec<_> = regions.collect::<hugebar::Result<_>>()?;
            Ok((regions, device))
        })
    }),
    by_both("Mapping", |device, backend| {
        let device = Device::open_by(device, backend)?;
        let device: &'static Device = Box::leak(Box::new(device));
        let bar = device.bar(2)?;
        work(move || {
            facts::leaf_sizes();
            Ok(bar.map()?)
        })
    }),
    by_both("Accessing registers, making slots", |device, backend| {
        let (device, bar) = mapped(device, backend)?;
        work(move || {
            let register = bar.register::<u32>(0)?;
            register.write(register.read());
            Ok((device, bar.into_slots(&[])?))
        })
    }),
    by_type1("Populating by type1", |device, backend| {
        let (device, bar) = mapped(device, backend)?;
        work(move || {
            let container = device.container().context("a container")?;
            let mut populate = Type1::new(container)?;
            install(&bar, &mut populate)?;
            Ok((device, bar, populate))
        })
    }),
    by_iommufd("Populating by KVM", |device, backend| {
        let (device, bar) = mapped(device, backend)?;
        work(move || {
            let mut populate = Prefault::new()?;
            install(&bar, &mut populate)?;
            Ok((device, bar, populate))
        })
    }),
    by_type1("Observing facts", |_, _| work(|| Ok(Facts::observe()))),
    by_type1("Measuring", |device, backend| {
        let (device, bar) = mapped(device, backend)?;
        let mut populate = Type1::new(device.container().context("a container")?)?;
        work(move || {
            let measured = bar.measure(&mut populate)?;
            Ok((device, bar, populate, measured))
        })
    }),
    by_both(
        "Reading and writing configuration space",
        |device, backend| {
            let device = Device::open_by(device, backend)?;
            work(move || {
                device.config()?.class_code()?;
                device.set_bus_master(true)?;
                Ok(device)
            })
        },
    ),
    by_type1("Enabling interrupts by type1", enable),
    by_iommufd("Enabling interrupts by iommufd", enable),
    by_both("Taking interrupts", |device, backend| {
        let interrupts = Device::open_by(device, backend)?.enable_irqs(IrqKind::Request, 1)?;
        work(move || {
            interrupts.trigger(0)?;
            ensure!(interrupts.wait(0, Some(Duration::from_secs(5)))? == 1);
            Ok(interrupts)
        })
    }),
    by_both("Disabling interrupts", |device, backend| {
        let device = Device::open_by(device, backend)?;
        let interrupts = device.enable_irqs(IrqKind::Request, 1)?;
        work(move || {
            drop(interrupts);
            Ok(device)
        })
    }),
    by_both("Resetting a device", |device, backend| {
        let device = Device::open_by(device, backend)?;
        work(move || {
            device.reset()?;
            Ok(device)
        })
    }),
    by_both("Resetting all devices on a bus", |device, backend| {
        let device = Device::open_by(device, backend)?;
        work(move || {
            device.hot_reset(&[])?;
            Ok(device)
        })
    }),
    by_both("Allowing low power", |device, backend| {
        let device = Device::open_by(device, backend)?;
        work(move || {
            device.allow_low_power()?;
            device.end_low_power()?;
            Ok(device)
        })
    }),
    by_type1("Mapping memory for DMA by type1", buffer),
    by_iommufd("Mapping memory for DMA by iommufd", buffer),
    by_type1("Freeing memory for DMA by type1", without_buffer),
    by_iommufd("Freeing memory for DMA by iommufd", without_buffer),
    by_type1("Mapping a BAR for peer-to-peer DMA by type1", peer),
    by_iommufd("Mapping a BAR for peer-to-peer DMA by iommufd", peer),
    by_type1(
        "Unmapping a BAR for peer-to-peer DMA by type1",
        without_peer,
    ),
    by_iommufd(
        "Unmapping a BAR for peer-to-peer DMA by iommufd",
        without_peer,
    ),
    by_both("Unmapping", |device, backend| {
        let (device, bar) = mapped(device, backend)?;
        work(move || {
            drop(bar);
            Ok(device)
        })
    }),
    by_type1("Closing a device by type1", close),
    by_iommufd("Closing a device by iommufd", close),
];

fn close(device: Address, backend: Backend) -> Result<Work> {
    let device = Device::open_by(device, backend)?;
    work(move || {
        drop(device);
        Ok(())
    })
}

fn open(device: Address, backend: Backend) -> Result<Work> {
    work(move || Ok(Device::open_by(device, backend)?))
}

/// Enables interrupts, with eventfds of their own.
fn enable(device: Address, backend: Backend) -> Result<Work> {
    let device = Device::open_by(device, backend)?;
    work(move || Ok((device.enable_irqs(IrqKind::Request, 1)?, device)))
}

/// Makes a buffer. The device outlives it.
fn buffer(device: Address, backend: Backend) -> Result<Work> {
    let device = Device::open_by(device, backend)?;
    let space = device.address_space()?;
    work(move || Ok((DmaBuffer::new(&space, 4 << 20)?, space, device)))
}

/// Drops a buffer.
fn without_buffer(device: Address, backend: Backend) -> Result<Work> {
    let device = Device::open_by(device, backend)?;
    let space = device.address_space()?;
    let buffer = DmaBuffer::new(&space, 4 << 20)?;
    work(move || {
        drop(buffer);
        Ok((space, device))
    })
}

/// Maps a BAR for the device itself, and once more.
fn peer(device: Address, backend: Backend) -> Result<Work> {
    let device = Device::open_by(device, backend)?;
    let bar = device.map_bar(2)?;
    let space = device.address_space()?;
    work(move || {
        let mut peer = space.map_bar(&device, &bar)?;
        peer.renew()?;
        Ok((peer, bar, space, device))
    })
}

/// Unmaps it.
fn without_peer(device: Address, backend: Backend) -> Result<Work> {
    let device = Device::open_by(device, backend)?;
    let bar = device.map_bar(2)?;
    let space = device.address_space()?;
    let peer = space.map_bar(&device, &bar)?;
    work(move || {
        drop(peer);
        Ok((bar, space, device))
    })
}

fn work<T: Any>(work: impl FnOnce() -> Result<T> + 'static) -> Result<Work> {
    Ok(Box::new(move || Ok(Box::new(work()?))))
}

/// A device and its mapped BAR. The device outlives it.
fn mapped(device: Address, backend: Backend) -> Result<(Device, Bar)> {
    let device = Device::open_by(device, backend)?;
    let bar = device.map_bar(2)?;
    Ok((device, bar))
}
