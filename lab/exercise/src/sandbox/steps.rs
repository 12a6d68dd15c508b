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
    /// The backend that it runs with.
    pub(super) backend: Backend,
    /// Prepares the step.
    pub(super) prepare: fn(Address) -> Result<Work>,
}

const fn step(title: &'static str, prepare: fn(Address) -> Result<Work>) -> Step {
    Step {
        title,
        backend: Backend::Type1,
        prepare,
    }
}

/// In the order of the document.
pub(super) const STEPS: [Step; 27] = [
    step("Opening a device by type1", |device| {
        work(move || Ok(Device::open_by(device, Backend::Type1)?))
    }),
    Step {
        title: "Opening a device by iommufd",
        backend: Backend::Iommufd,
        prepare: |device| work(move || Ok(Device::open_by(device, Backend::Iommufd)?)),
    },
    step("Taking a device that is open", |device| {
        let device = Device::open(device)?;
        let address = device.address();
        // The lender keeps it for good.
        let device: &'static Device = Box::leak(Box::new(device));
        work(move || Ok(Device::borrowed(device.as_fd(), address)?))
    }),
    step("Asking for regions", |device| {
        let device = Device::open(device)?;
        work(move || {
            let _ = device.bar(2)?;
            Ok((device.regions()?, device))
        })
    }),
    step("Mapping", |device| {
        let device: &'static Device = Box::leak(Box::new(Device::open(device)?));
        let bar = device.bar(2)?;
        work(move || {
            facts::leaf_sizes();
            Ok(bar.map()?)
        })
    }),
    step("Accessing registers, making slots", |device| {
        let (device, bar) = mapped(device)?;
        work(move || {
            let register = bar.register::<u32>(0)?;
            register.write(register.read());
            Ok((device, bar.into_slots(&[])?))
        })
    }),
    step("Populating by type1", |device| {
        let (device, bar) = mapped(device)?;
        work(move || {
            let container = device.container().context("a container")?;
            let mut populate = Type1::new(container)?;
            install(&bar, &mut populate)?;
            Ok((device, bar, populate))
        })
    }),
    Step {
        title: "Populating by KVM",
        backend: Backend::Iommufd,
        prepare: |device| {
            let (device, bar) = mapped(device)?;
            work(move || {
                let mut populate = Prefault::new()?;
                install(&bar, &mut populate)?;
                Ok((device, bar, populate))
            })
        },
    },
    step("Observing facts", |_| work(|| Ok(Facts::observe()))),
    step("Measuring", |device| {
        let (device, bar) = mapped(device)?;
        let mut populate = Type1::new(device.container().context("a container")?)?;
        work(move || {
            let measured = bar.measure(&mut populate)?;
            Ok((device, bar, populate, measured))
        })
    }),
    step("Reading and writing configuration space", |device| {
        let device = Device::open(device)?;
        work(move || {
            device.config()?.class_code()?;
            device.set_bus_master(true)?;
            Ok(device)
        })
    }),
    step("Enabling interrupts", |device| {
        let device = Device::open(device)?;
        work(move || Ok((device.enable_irqs(IrqKind::Request, 1)?, device)))
    }),
    step("Taking interrupts", |device| {
        let interrupts = Device::open(device)?.enable_irqs(IrqKind::Request, 1)?;
        work(move || {
            interrupts.trigger(0)?;
            ensure!(interrupts.wait(0, Some(Duration::from_secs(5)))? == 1);
            Ok(interrupts)
        })
    }),
    step("Disabling interrupts", |device| {
        let device = Device::open(device)?;
        let interrupts = device.enable_irqs(IrqKind::Request, 1)?;
        work(move || {
            drop(interrupts);
            Ok(device)
        })
    }),
    step("Resetting a device", |device| {
        let device = Device::open(device)?;
        work(move || {
            device.reset()?;
            Ok(device)
        })
    }),
    step("Resetting all devices on a bus", |device| {
        let device = Device::open(device)?;
        work(move || {
            device.hot_reset(&[])?;
            Ok(device)
        })
    }),
    step("Allowing low power", |device| {
        let device = Device::open(device)?;
        work(move || {
            device.allow_low_power()?;
            device.end_low_power()?;
            Ok(device)
        })
    }),
    step("Mapping memory for DMA by type1", |device| {
        buffer(device, Backend::Type1)
    }),
    Step {
        title: "Mapping memory for DMA by iommufd",
        backend: Backend::Iommufd,
        prepare: |device| buffer(device, Backend::Iommufd),
    },
    step("Freeing memory for DMA by type1", |device| {
        without_buffer(device, Backend::Type1)
    }),
    Step {
        title: "Freeing memory for DMA by iommufd",
        backend: Backend::Iommufd,
        prepare: |device| without_buffer(device, Backend::Iommufd),
    },
    step("Mapping a BAR for peer-to-peer DMA by type1", |device| {
        peer(device, Backend::Type1)
    }),
    Step {
        title: "Mapping a BAR for peer-to-peer DMA by iommufd",
        backend: Backend::Iommufd,
        prepare: |device| peer(device, Backend::Iommufd),
    },
    step("Unmapping a BAR for peer-to-peer DMA by type1", |device| {
        without_peer(device, Backend::Type1)
    }),
    Step {
        title: "Unmapping a BAR for peer-to-peer DMA by iommufd",
        backend: Backend::Iommufd,
        prepare: |device| without_peer(device, Backend::Iommufd),
    },
    step("Unmapping", |device| {
        let (device, bar) = mapped(device)?;
        work(move || {
            drop(bar);
            Ok(device)
        })
    }),
    step("Closing a device", |device| {
        let device = Device::open(device)?;
        work(move || {
            drop(device);
            Ok(())
        })
    }),
];

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
fn mapped(device: Address) -> Result<(Device, Bar)> {
    let device = Device::open(device)?;
    let bar = device.map_bar(2)?;
    Ok((device, bar))
}
