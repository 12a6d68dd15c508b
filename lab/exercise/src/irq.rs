//! Interrupts: QEMU's teaching device (`edu`) by INTx and MSI, a network card (`e1000e`) by MSI-X, and those that the
//! kernel raises.

use std::fs;
use std::os::fd::AsFd;
use std::panic::Location;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hugebar::ErrorKind;
use hugebar::bar::Bar;
use hugebar::iommu::Ioas;
use hugebar::pci::Address;
use hugebar::seam::{fail, record};
use hugebar::vfio::{Backend, Device, Interrupts, IrqFlags, IrqKind};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::ForkResult;
use rustix::event::{EventfdFlags, eventfd};

use crate::bar;
use crate::faults::nth;

/// `hw/misc/edu.c`: raises an interrupt, and acknowledges it.
const RAISE: u64 = 0x60;
const ACKNOWLEDGE: u64 = 0x64;

/// How long an interrupt may take, and how long to wait for one that must not come.
pub(crate) const SOON: Option<Duration> = Some(Duration::from_secs(20));
const NEVER: Option<Duration> = Some(Duration::from_millis(50));

pub(crate) fn run(
    device: Address,
    card: Address,
    controller: Address,
    backend: Backend,
) -> Result<()> {
    let edu = Edu::open(device, backend)?;
    line(&edu)?;
    messages(&edu)?;
    one_kind_at_a_time(&edu.device)?;
    of_the_caller(&edu)?;
    kept_from_children(&edu)?;
    left(&edu.device)?;
    outlives(edu)?;
    vectors(card, backend)?;
    several_messages(controller, backend)?;
    disabled_by_others(device, backend)?;
    requested(device, backend)
}

struct Edu {
    device: Device,
    bar: Bar,
}

impl Edu {
    fn open(address: Address, backend: Backend) -> Result<Self> {
        let device = bar::open(address, backend)?;
        device.set_bus_master(true)?;
        let bar = device.map_bar(0)?;
        Ok(Self { device, bar })
    }

    fn raise(&self) -> Result<()> {
        Ok(self.bar.write(RAISE, 1_u32)?)
    }

    fn acknowledge(&self) -> Result<()> {
        Ok(self.bar.write(ACKNOWLEDGE, 1_u32)?)
    }
}

#[track_caller]
fn is_of_kind<T>(result: hugebar::Result<T>, kind: ErrorKind) -> Result<String> {
    let line = Location::caller().line();
    let error = result
        .err()
        .with_context(|| format!("line {line}: it is refused"))?;
    ensure!(error.kind() == kind, "{error}");
    Ok(error.to_string())
}

/// The kernel masks INTx when it fires, and it fires again as long as its line is up.
fn line(edu: &Edu) -> Result<()> {
    let info = edu.device.irq_info(IrqKind::Intx)?;
    let flags = IrqFlags::EVENTFD | IrqFlags::MASKABLE | IrqFlags::AUTOMASKED;
    ensure!(info.count == 1 && info.flags == flags, "{info:?}");
    let irq = edu.device.enable_irqs(IrqKind::Intx, 1)?;
    ensure!(irq.take(0)? == 0 && irq.wait(0, NEVER)? == 0);
    edu.raise()?;
    ensure!(irq.wait(0, SOON)? == 1);
    edu.raise()?;
    ensure!(irq.wait(0, NEVER)? == 0, "it is masked");
    irq.unmask()?;
    ensure!(irq.wait(0, SOON)? == 1, "its line is up");
    edu.acknowledge()?;
    irq.unmask()?;
    ensure!(irq.wait(0, NEVER)? == 0, "its line is down");
    irq.mask()?;
    edu.raise()?;
    ensure!(irq.wait(0, NEVER)? == 0);
    irq.unmask()?;
    ensure!(irq.wait(0, SOON)? == 1);
    edu.acknowledge()?;
    irq.unmask()?;

    // As KVM does when a guest ends its interrupt.
    let ended = eventfd(0, EventfdFlags::CLOEXEC)?;
    irq.unmask_by(Some(ended.as_fd()))?;
    is_of_kind(irq.unmask_by(Some(ended.as_fd())), ErrorKind::Busy)?;
    for _ in 0..2 {
        edu.raise()?;
        ensure!(irq.wait(0, SOON)? == 1);
        edu.acknowledge()?;
        rustix::io::write(&ended, &1_u64.to_ne_bytes())?;
    }
    irq.unmask_by(None)?;
    irq.trigger(0)?;
    ensure!(irq.take(0)? == 1, "loopback is at once");
    irq.disable()?;
    Ok(())
}

fn messages(edu: &Edu) -> Result<()> {
    let info = edu.device.irq_info(IrqKind::Msi)?;
    ensure!(info.count == 1 && !info.flags.contains(IrqFlags::MASKABLE));
    let irq = edu.device.enable_irqs(IrqKind::Msi, 1)?;
    for _ in 0..3 {
        edu.raise()?;
        ensure!(irq.wait(0, SOON)? == 1);
        edu.acknowledge()?;
    }
    is_of_kind(irq.mask(), ErrorKind::Unsupported)?;
    is_of_kind(irq.unmask(), ErrorKind::Unsupported)?;
    // Without bus mastering no message is sent.
    edu.device.set_bus_master(false)?;
    edu.raise()?;
    ensure!(irq.wait(0, NEVER)? == 0);
    edu.acknowledge()?;
    edu.device.set_bus_master(true)?;
    drop(irq);
    edu.raise()?;
    edu.acknowledge()
}

fn one_kind_at_a_time(device: &Device) -> Result<()> {
    for (first, second) in [(IrqKind::Intx, IrqKind::Msi), (IrqKind::Msi, IrqKind::Intx)] {
        let irq = device.enable_irqs(first, 1)?;
        let said = is_of_kind(device.enable_irqs(second, 1), ErrorKind::Busy)?;
        ensure!(said.contains(&format!("while {first} is")), "{said}");
        is_of_kind(device.enable_irqs(first, 1), ErrorKind::Busy)?;
        // The kernel's own kinds can be enabled beside them.
        let request = device.enable_irqs(IrqKind::Request, 1)?;
        request.trigger(0)?;
        ensure!(request.take(0)? == 1 && irq.take(0)? == 0);
        irq.trigger(0)?;
        ensure!(irq.take(0)? == 1);
        // Enabled outside this crate.
        let borrowed = Device::borrowed(device.as_fd(), None)?;
        let refused = borrowed.enable_irqs(second, 1).err().context("it is")?;
        let remedy = refused.remedy().unwrap_or_default();
        ensure!(remedy.contains("another kind"), "{refused}");
    }
    is_of_kind(
        device.enable_irqs(IrqKind::Intx, 0),
        ErrorKind::InvalidInput,
    )?;
    is_of_kind(device.enable_irqs(IrqKind::Msi, 2), ErrorKind::Unsupported)?;
    let none = device.enable_irqs(IrqKind::Msix, 1);
    let said = is_of_kind(none, ErrorKind::Unsupported)?;
    ensure!(said.contains("the device has no MSI-X"), "{said}");
    // Not a PCI Express device: only some kernels refuse this.
    let error = device.enable_irqs(IrqKind::Error, 1);
    match device.irq_info(IrqKind::Error)?.count {
        0 => drop(is_of_kind(error, ErrorKind::Unsupported)?),
        _ => drop(error?),
    }
    Ok(())
}

fn of_the_caller(edu: &Edu) -> Result<()> {
    let own = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let irq = edu
        .device
        .enable_irqs_with(IrqKind::Msi, &[Some(own.as_fd())])?;
    ensure!(irq.fd(0).is_none());
    is_of_kind(irq.wait(0, NEVER), ErrorKind::InvalidInput)?;
    edu.raise()?;
    let mut count = [0; 8];
    while rustix::io::read(&own, &mut count) == Err(rustix::io::Errno::AGAIN) {
        thread::yield_now();
    }
    ensure!(u64::from_ne_bytes(count) == 1);
    edu.acknowledge()?;
    drop(irq);

    // No vector first, and then one.
    let mut irq = edu.device.enable_irqs_with(IrqKind::Msi, &[None])?;
    is_of_kind(irq.trigger(0), ErrorKind::InvalidInput)?;
    irq.add(0)?;
    irq.trigger(0)?;
    ensure!(irq.take(0)? == 1);
    irq.set(0, None)?;
    is_of_kind(irq.take(0), ErrorKind::InvalidInput)?;
    irq.set(0, Some(own.as_fd()))?;
    irq.trigger(0)?;
    ensure!(rustix::io::read(&own, &mut count) == Ok(8));
    drop(irq);
    let none = edu.device.enable_irqs_with(IrqKind::Request, &[None]);
    is_of_kind(none, ErrorKind::InvalidInput)?;
    let null = fs::File::open("/dev/null")?;
    let refused = edu
        .device
        .enable_irqs_with(IrqKind::Msi, &[Some(null.as_fd())]);
    ensure!(refused.is_err_and(|error| {
        error
            .to_string()
            .contains("check that each file is an eventfd")
    }));
    Ok(())
}

/// A child after `fork` drops its copy of the guard, which must not disable the parent's interrupts.
#[allow(unsafe_code, reason = "forks")]
fn kept_from_children(edu: &Edu) -> Result<()> {
    let irq = edu.device.enable_irqs(IrqKind::Msi, 1)?;
    // SAFETY: this process has one thread, and the child ends at once.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            drop(irq);
            // SAFETY: ends the child, and nothing else.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            let ended = waitpid(child, None)?;
            ensure!(ended == WaitStatus::Exited(child, 0), "{ended:?}");
        }
    }
    edu.raise()?;
    ensure!(irq.wait(0, SOON)? == 1);
    edu.acknowledge()
}

/// Interrupts that could not be disabled are disabled before others are enabled.
fn left(device: &Device) -> Result<()> {
    let irq = device.enable_irqs(IrqKind::Intx, 1)?;
    let (refused, _) = fail(nth(0, libc::EIO), || irq.disable());
    ensure!(refused.is_err_and(|error| error.errno() == Some(libc::EIO)));
    let (irq, calls) = record(|| device.enable_irqs(IrqKind::Msi, 1));
    let requests = calls.iter().filter(|name| **name == "VFIO_DEVICE_SET_IRQS");
    ensure!(requests.count() == 2, "{calls:?}");
    drop(irq?);
    // This does not concern the kernel's own kinds, which can be replaced.
    let request = device.enable_irqs(IrqKind::Request, 1)?;
    let ((), _) = fail(nth(0, libc::EIO), || drop(request));
    let request = device.enable_irqs(IrqKind::Request, 1)?;
    request.trigger(0)?;
    ensure!(request.take(0)? == 1);
    Ok(())
}

/// Interrupts keep the device and its address space open.
fn outlives(edu: Edu) -> Result<()> {
    let address = edu.device.address().context("an address")?;
    let backend = edu.device.backend().context("a backend")?;
    let Edu { device, bar } = edu;
    let irq = device.enable_irqs(IrqKind::Msi, 1)?;
    let container = device.container().cloned();
    drop(device);
    bar.write(RAISE, 1_u32)?;
    ensure!(irq.wait(0, SOON)? == 1);
    bar.write(ACKNOWLEDGE, 1_u32)?;
    if let Some(container) = &container {
        // The container still knows its group.
        Device::open_in(address, container)?;
    }
    drop((irq, bar));
    drop(bar::open(address, backend)?);
    if backend == Backend::Iommufd {
        let ioas = Ioas::open()?;
        let mut device = Device::open_on(address, &ioas)?;
        let irq = device.enable_irqs(IrqKind::Msi, 1)?;
        let sibling = ioas.sibling()?;
        device.attach(&sibling)?;
        let id = sibling.id();
        drop((sibling, device));
        drop(irq);
        // Nothing holds it any more, so it was destroyed.
        let gone = Ioas::existing(ioas.as_fd().try_clone_to_owned()?, id)?;
        ensure!(gone.iova_ranges().is_err());
    }
    Ok(())
}

/// `hw/net/e1000_regs.h`: causes, which of them interrupt, and their vectors. A link change (LSC) is one of the other
/// causes.
const ICR: u64 = 0xc0;
const ICS: u64 = 0xc8;
const IMS: u64 = 0xd0;
const IMC: u64 = 0xd8;
const IVAR: u64 = 0xe4;
const OTHER: u32 = 1 << 24 | 1 << 2;

/// The card delays further interrupts by less than this. QEMU 7.2 ends with an assertion if MSI-X is disabled in this time.
pub(crate) const THROTTLED: Duration = Duration::from_millis(50);

fn vectors(address: Address, backend: Backend) -> Result<()> {
    let card = bar::open(address, backend)?;
    card.set_bus_master(true)?;
    let all = card.irq_info(IrqKind::Msix)?;
    let table = card.msix()?.context("it has MSI-X")?;
    ensure!(
        all.count == u32::from(table.vectors) && all.count >= 4,
        "{all:?}"
    );
    let said = is_of_kind(
        card.enable_irqs(IrqKind::Msix, all.count + 1),
        ErrorKind::Unsupported,
    )?;
    ensure!(
        said.contains(&format!("the device has {}", all.count)),
        "{said}"
    );
    let mut irqs = card.enable_irqs(IrqKind::Msix, 3)?;
    let said = is_of_kind(card.enable_irqs(IrqKind::Msi, 1), ErrorKind::Busy)?;
    ensure!(said.contains("while MSI-X is"), "{said}");
    irqs.trigger_those(&[true, false, true])?;
    ensure!([irqs.take(0)?, irqs.take(1)?, irqs.take(2)?] == [1, 0, 1]);
    is_of_kind(
        irqs.trigger_those(&[false, false, false, true]),
        ErrorKind::InvalidInput,
    )?;

    // Interrupts of the card itself, by vector 2.
    let bar = card.map_bar(0)?;
    // Clears what an earlier scenario left: opening does not reset this card.
    bar.write(IMC, u32::MAX)?;
    bar.write(ICR, u32::MAX)?;
    bar.write(IVAR, (2_u32 | 8) << 16)?;
    bar.write(IMS, OTHER)?;
    for _ in 0..2 {
        bar.write(ICS, OTHER)?;
        ensure!(irqs.wait(2, SOON)? == 1);
        bar.write(ICR, OTHER)?;
        ensure!(bar.read::<u32>(ICR)? & OTHER == 0, "its causes are cleared");
    }
    ensure!(irqs.take(0)? + irqs.take(1)? == 0);
    thread::sleep(THROTTLED);

    // From Linux 6.5 on, if the platform can, vectors are added while the others stay enabled.
    let added = irqs.add(3);
    println!("vectors can be added: {}", added.is_ok());
    if all.flags.contains(IrqFlags::NORESIZE) {
        is_of_kind(added, ErrorKind::Unsupported)?;
    } else {
        added?;
        irqs.trigger_those(&[false, true, false, true])?;
        ensure!([irqs.take(1)?, irqs.take(2)?, irqs.take(3)?] == [1, 0, 1]);
        bar.write(IVAR, (3_u32 | 8) << 16)?;
        bar.write(ICS, OTHER)?;
        ensure!(irqs.wait(3, SOON)? == 1);
        thread::sleep(THROTTLED);
    }
    is_of_kind(irqs.add(all.count), ErrorKind::Unsupported)?;
    let error = card.enable_irqs(IrqKind::Error, 1)?;
    error.trigger(0)?;
    ensure!(error.take(0)? == 1);
    Ok(())
}

/// MSI of several vectors, to which no kernel can add one later.
fn several_messages(address: Address, backend: Backend) -> Result<()> {
    let device = bar::open(address, backend)?;
    let info = device.irq_info(IrqKind::Msi)?;
    ensure!(
        info.count == 16 && info.flags.contains(IrqFlags::NORESIZE),
        "{info:?}"
    );
    let mut irqs = device.enable_irqs(IrqKind::Msi, 3)?;
    let said = is_of_kind(irqs.add(3), ErrorKind::Unsupported)?;
    ensure!(
        said.contains("vector 3 cannot be added to 3; enable"),
        "{said}"
    );
    is_of_kind(irqs.set(15, None), ErrorKind::Unsupported)?;
    let said = is_of_kind(irqs.add(16), ErrorKind::Unsupported)?;
    ensure!(said.contains("no vector 16"), "{said}");
    // Those that are there can be changed.
    irqs.set(2, None)?;
    irqs.trigger_those(&[true, false, true])?;
    is_of_kind(irqs.take(2), ErrorKind::InvalidInput)?;
    irqs.add(2)?;
    irqs.trigger(2)?;
    ensure!([irqs.take(0)?, irqs.take(1)?, irqs.take(2)?] == [1, 0, 1]);
    Ok(())
}

/// Other code that shares the device may have disabled the kernel's own kinds already.
fn disabled_by_others(address: Address, backend: Backend) -> Result<()> {
    let device = bar::open(address, backend)?;
    let others = Device::borrowed(device.as_fd(), device.address())?;
    for kind in [IrqKind::Request, IrqKind::Error] {
        if device.irq_info(kind)?.count == 0 {
            continue;
        }
        let irq = device.enable_irqs(kind, 1)?;
        others.enable_irqs(kind, 1)?.disable()?;
        irq.disable()?;
        drop(device.enable_irqs(kind, 1)?);
    }
    Ok(())
}

/// Unbinding waits until the device is given back.
fn requested(address: Address, backend: Backend) -> Result<()> {
    let device = bar::open(address, backend)?;
    let request: Interrupts = device.enable_irqs(IrqKind::Request, 1)?;
    let unbinding = thread::spawn(move || {
        let path = format!("/sys/bus/pci/devices/{address}/driver/unbind");
        fs::write(path, address.to_string())
    });
    ensure!(request.wait(0, SOON)? >= 1);
    ensure!(!unbinding.is_finished(), "it waits");
    drop((request, device));
    let ended = unbinding.join();
    ended
        .map_err(|_| anyhow::anyhow!("it panicked"))?
        .context("unbinding")?;
    fs::write("/sys/bus/pci/drivers_probe", address.to_string())?;
    Ok(())
}
