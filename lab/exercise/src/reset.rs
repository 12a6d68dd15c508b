//! Resets of one function and of a whole bus: what is lost, what stays, and which devices prevent one.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hugebar::ErrorKind;
use hugebar::bar::Bar;
use hugebar::iommu::{Container, Ioas, IommuKind};
use hugebar::pci::{Address, Command, Function};
use hugebar::populate::{Type1, install};
use hugebar::vfio::{Backend, Device, Interrupts, IrqKind};

use crate::faults::{Failed, Faults};
use crate::irq::THROTTLED;

/// Registers of the card (`hw/net/e1000_regs.h`): which vector interrupts go to, causes, which of them interrupt.
const IVAR: u64 = 0xe4;
const ICS: u64 = 0xc8;
const IMS: u64 = 0xd0;
const OTHER: u32 = 1 << 24 | 1 << 2;

pub(crate) fn alone(device: Address, card: Address, backend: Backend) -> Result<()> {
    let space = Space::open(backend)?;
    let edu = space.device(device)?;
    ensure!(!edu.can_reset());
    let refused = edu.reset().err().context("there is no way")?;
    ensure!(
        refused.kind() == ErrorKind::Unsupported && refused.errno().is_none(),
        "{refused}"
    );
    let refused = edu.hot_reset(&[]).err().context("there is no way")?;
    ensure!(refused.kind() == ErrorKind::Unsupported, "{refused}");

    // The kernel resets it by D3hot and back, which does not affect this emulated card.
    let method = format!("/sys/bus/pci/devices/{card}/reset_method");
    fs::write(method, "bus")?;
    let card = space.device(card)?;
    ensure!(card.can_reset());
    let probe = Probe::new(&card)?;
    card.reset()?;
    probe.check(&card)?;
    // The bus reset: the card is alone on its bus.
    let reached = card.hot_reset_info()?;
    ensure!(
        reached.len() == 1 && Some(reached[0].address) == card.address(),
        "{reached:?}"
    );
    drop(probe);
    let probe = Probe::new(&card)?;
    // The other device that is named is on another bus, and not affected.
    card.hot_reset(&[&edu])?;
    probe.check(&card)?;
    drop(probe);
    fails_cleanly(|| {
        card.reset()?;
        card.hot_reset(&[])
    })
}

/// State in and around the device, to see what a reset does to it.
struct Probe {
    bar: Bar,
    irqs: Interrupts,
    command: Command,
}

impl Probe {
    fn new(card: &Device) -> Result<Self> {
        card.set_bus_master(true)?;
        let bar = card.map_bar(0)?;
        let irqs = card.enable_irqs(IrqKind::Msix, 3)?;
        bar.write(IVAR, 5_u32 << 16)?;
        ensure!(bar.read::<u32>(IVAR)? == 5 << 16);
        Ok(Self {
            bar,
            irqs,
            command: card.config()?.command()?,
        })
    }

    fn check(&self, card: &Device) -> Result<()> {
        let command = card.config()?.command()?;
        ensure!(
            command == self.command && command.contains(Command::BUS_MASTER),
            "{command:?}"
        );
        let type1 = |container: &&Arc<Container>| container.kind() == IommuKind::Type1;
        if let Some(container) = card.container().filter(type1) {
            // Its leaves were removed.
            let mut populate = Type1::new(container)?;
            ensure!(install(&self.bar, &mut populate)?.faults > 0);
            ensure!(install(&self.bar, &mut populate)?.faults == 0);
        }
        ensure!(self.bar.read::<u32>(IVAR)? == 0, "the device forgets");
        // Its interrupts are still enabled.
        self.bar.write(IVAR, (2_u32 | 8) << 16)?;
        self.bar.write(IMS, OTHER)?;
        self.bar.write(ICS, OTHER)?;
        ensure!(self.irqs.wait(2, Some(Duration::from_secs(20)))? == 1);
        thread::sleep(THROTTLED);
        Ok(())
    }
}

/// Opens devices that share an address space.
enum Space {
    Container(Arc<Container>),
    Ioas(Arc<Ioas>),
}

impl Space {
    #[allow(unsafe_code, reason = "without an IOMMU")]
    fn open(backend: Backend) -> Result<Self> {
        Ok(match backend {
            Backend::Type1 => Self::Container(Container::open()?),
            // SAFETY: the devices are given nothing to do.
            Backend::NoIommu => Self::Container(unsafe { Container::open_without_iommu() }?),
            Backend::Iommufd => Self::Ioas(Ioas::open()?),
        })
    }

    fn device(&self, address: Address) -> Result<Device> {
        Ok(match self {
            Self::Container(container) => Device::open_in(address, container)?,
            Self::Ioas(ioas) => Device::open_on(address, ioas)?,
        })
    }
}

pub(crate) fn together(first: Address, second: Address, backend: Backend) -> Result<()> {
    let space = Space::open(backend)?;
    let card = space.device(first)?;
    let reached = card.hot_reset_info()?;
    let addresses: Vec<_> = reached.iter().map(|own| own.address).collect();
    ensure!(addresses == [first, second], "{addresses:?}");
    let other = space.device(second)?;
    let told = card.hot_reset_info()?;
    match backend {
        Backend::Iommufd => ensure!(told.iter().all(|own| own.owned == Some(true))),
        _ => ensure!(
            told.iter()
                .all(|own| own.group.is_some() && own.owned.is_none())
        ),
    }
    let probe = Probe::new(&card)?;
    // Everything else that is reset must be named: an open device, or a group.
    let group = |address| Function::at(address)?.iommu_group();
    let same_group = group(first)? == group(second)?;
    println!("{first} and {second} share a group: {same_group}");
    if !same_group || backend == Backend::Iommufd {
        busy(card.hot_reset(&[]), second)?;
    }
    card.hot_reset(&[&other])?;
    probe.check(&card)?;
    // The kernel takes no more groups than it resets devices.
    card.hot_reset(&[&other, &card, &other])?;
    fails_cleanly(|| card.hot_reset(&[&other]))?;
    drop((probe, other));
    if same_group {
        // It is not open, and nobody else can open it.
        card.hot_reset(&[])?;
    } else {
        busy(card.hot_reset(&[]), second)?;
    }
    not_bound(&card, second)?;
    // The same by descriptors.
    let borrowed = Device::borrowed(std::os::fd::AsFd::as_fd(&card), card.address())?;
    let refused = borrowed.hot_reset(&[]).err().context("who has it?")?;
    ensure!(refused.kind() == ErrorKind::InvalidInput, "{refused}");
    match backend {
        Backend::Iommufd if same_group => borrowed.hot_reset_by_groups(&[])?,
        _ => {
            let refused = borrowed
                .hot_reset_by_groups(&[])
                .err()
                .context("no group")?;
            ensure!(
                refused.to_string().contains("all affected groups"),
                "{refused}"
            );
        }
    }
    Ok(())
}

fn busy(result: hugebar::Result<()>, named: Address) -> Result<()> {
    let error = result.err().context("it is reached too")?;
    ensure!(error.kind() == ErrorKind::Busy, "{error}");
    ensure!(error.operation().contains(&named.to_string()), "{error}");
    Ok(())
}

/// A device with another driver than VFIO's, or with none, prevents it.
fn not_bound(card: &Device, second: Address) -> Result<()> {
    let name = second.to_string();
    fs::write(
        format!("/sys/bus/pci/devices/{second}/driver/unbind"),
        &name,
    )?;
    let refused = card.hot_reset(&[]);
    fs::write("/sys/bus/pci/drivers_probe", &name)?;
    let said = refused.err().context("it is reached too")?;
    let (kind, words) = match card.backend() {
        // Without a driver it has no group either.
        Some(Backend::NoIommu) => (ErrorKind::NoIommu, "binding it to vfio-pci".to_owned()),
        _ => (
            ErrorKind::Busy,
            format!("{second}, which is bound to no driver"),
        ),
    };
    ensure!(said.kind() == kind, "{said}");
    ensure!(said.to_string().contains(&words), "{said}");
    println!("{said}");
    Ok(())
}

fn fails_cleanly(work: impl Fn() -> hugebar::Result<()>) -> Result<()> {
    let check = |failed: &Failed<'_>, result: &hugebar::Result<()>| {
        let again = failed.errno == libc::EAGAIN;
        match result {
            // The library asks again, because devices come and go.
            Ok(()) => ensure!(again && failed.name.contains("INFO"), "{}", failed.name),
            Err(error) => {
                ensure!(
                    error.operation() == failed.name && error.errno() == Some(failed.errno),
                    "{error}"
                );
                ensure!((error.kind() == ErrorKind::Busy) == again, "{error}");
            }
        }
        Ok(())
    };
    Faults::of(&[libc::EAGAIN, libc::EIO, libc::EINVAL]).each(&work, check)?;
    work()?;
    Ok(())
}
