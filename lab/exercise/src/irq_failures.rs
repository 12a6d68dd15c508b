//! Each system call of enabling, taking and disabling interrupts fails once.

use std::cell::RefCell;
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use hugebar::pci::Address;
use hugebar::seam::fail;
use hugebar::vfio::{Backend, Device, IrqKind};
use rustix::event::{EventfdFlags, eventfd};

use crate::bar;
use crate::faults::{Faults, nth};
use crate::irq::SOON;

fn journey(address: Address, backend: Backend) -> Result<()> {
    let device = bar::open(address, backend)?;
    let own = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let irq = device.enable_irqs(IrqKind::Intx, 1)?;
    irq.unmask()?;
    irq.mask()?;
    irq.unmask_by(Some(own.as_fd()))?;
    irq.unmask_by(None)?;
    drop(irq);
    let mut irq = device.enable_irqs_with(IrqKind::Msi, &[Some(own.as_fd())])?;
    irq.trigger_those(&[true])?;
    ensure!(rustix::io::read(&own, &mut [0; 8]) == Ok(8));
    irq.set(0, None)?;
    irq.set(0, Some(own.as_fd()))?;
    irq.add(0)?;
    irq.trigger(0)?;
    ensure!(irq.wait(0, SOON)? == 1 && irq.take(0)? == 0);
    let request = device.enable_irqs(IrqKind::Request, 1)?;
    drop((irq, request));
    device.enable_irqs(IrqKind::Intx, 1)?.disable()?;
    Ok(())
}

/// Whichever call fails, nothing stays open, and the device still works.
pub(crate) fn run(address: Address, backend: Backend) -> Result<()> {
    in_an_open_device(&bar::open(address, backend)?)?;
    let work = || journey(address, backend);
    let tally = Faults::of(&[libc::EINVAL, libc::ENOMEM]).each(work, |_, _| work())?;
    // If a dropped guard could not disable its interrupts, the next one does.
    ensure!(
        tally.failed > tally.calls && tally.survived >= 6,
        "{} failed, {} survived",
        tally.failed,
        tally.survived
    );
    Ok(())
}

/// In a device that stays open, a failure leaves interrupts as they were: disabled, or enabled with their eventfds.
fn in_an_open_device(device: &Device) -> Result<()> {
    let errnos = [libc::EINVAL, libc::ENOSPC, libc::EIO];
    for kind in [IrqKind::Intx, IrqKind::Msi, IrqKind::Request] {
        let work = || -> hugebar::Result<()> { device.enable_irqs(kind, 1)?.disable() };
        Faults::of(&errnos).each(work, |failed, result| {
            let error = result.as_ref().err().context("it is told")?;
            ensure!(error.errno() == Some(failed.errno), "{error}");
            ensure!(error.operation().contains(failed.name), "{error}");
            // Also those that could not be disabled.
            Ok(work()?)
        })?;
    }
    let own = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let irq = RefCell::new(device.enable_irqs(IrqKind::Msi, 1)?);
    let kept = || -> Result<()> {
        let irq = irq.borrow();
        irq.trigger(0)?;
        irq.trigger(0)?;
        ensure!(irq.take(0)? == 2 && irq.kind() == IrqKind::Msi);
        // A signal does not end the wait.
        irq.trigger(0)?;
        let (times, calls) = fail(nth(0, libc::EINTR), || irq.wait(0, SOON));
        ensure!(times? == 1 && calls[0] == "ppoll", "{calls:?}");
        Ok(())
    };
    let work = || -> hugebar::Result<()> {
        let mut irq = irq.borrow_mut();
        irq.set(0, Some(own.as_fd()))?;
        irq.add(0)
    };
    Faults::of(&errnos).each(work, |failed, result| {
        ensure!(result.is_err());
        // Which of them the kernel knows after an error is left open, but another one can be set.
        ensure!(irq.borrow().fd(0).is_none() == (failed.index > 0));
        irq.borrow_mut().add(0)?;
        kept()
    })?;
    Ok(())
}
