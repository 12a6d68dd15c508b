//! Power states: set by name or left to the kernel, and what happens to mappings.

use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hugebar::ErrorKind;
use hugebar::bar::Bar;
use hugebar::iommu::IommuKind;
use hugebar::pci::{Address, Function, PowerState};
use hugebar::populate::{Type1, install};
use hugebar::vfio::{Backend, Device};
use rustix::event::{EventfdFlags, eventfd};

use crate::bar;
use crate::faults::{Failed, Faults};

/// A register of the card (`hw/net/e1000_regs.h`) that keeps its value.
const IVAR: u64 = 0xe4;

pub(crate) fn run(device: Address, card: Address, backend: Backend) -> Result<()> {
    let function = Function::at(card)?;
    asleep(&function)?;
    let card = bar::open(card, backend)?;
    ensure!(
        function.power_state()? == Some(PowerState::D0),
        "opening wakes it"
    );
    let bar = card.map_bar(0)?;
    bar.write(IVAR, 5_u32)?;
    by_name(&card, &function, &bar)?;
    allowed(&card, &function, &bar)?;
    failures(&card)?;
    drop((card, bar));
    asleep(&function)?;

    // This device has no power management.
    let edu = bar::open(device, backend)?;
    let config = edu.config()?;
    ensure!(config.power_state()?.is_none());
    refused(
        config.set_power_state(PowerState::D3hot),
        ErrorKind::Unsupported,
    )
}

fn refused(result: hugebar::Result<()>, kind: ErrorKind) -> Result<()> {
    let error = result.err().context("it is refused")?;
    ensure!(error.kind() == kind, "{error}");
    Ok(())
}

/// Whether the kernel puts open devices to sleep: not without `CONFIG_PM`.
fn can_sleep(function: &Function) -> bool {
    let status = "/sys/bus/pci/devices/ADDRESS/power/runtime_status";
    Path::new(&status.replace("ADDRESS", &function.address().to_string())).exists()
}

/// Waits until the kernel has put the device to sleep.
fn asleep(function: &Function) -> Result<()> {
    if !can_sleep(function) {
        println!("this kernel has no power management");
        return Ok(());
    }
    let begin = Instant::now();
    while function.power_state()? != Some(PowerState::D3hot) {
        let state = function.power_state()?;
        ensure!(
            begin.elapsed() < Duration::from_secs(20),
            "it stays in {state:?}"
        );
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn by_name(card: &Device, function: &Function, bar: &Bar) -> Result<()> {
    let config = card.config()?;
    ensure!(config.power_state()? == Some(PowerState::D0));
    config.set_power_state(PowerState::D3hot)?;
    ensure!(config.power_state()? == Some(PowerState::D3hot));
    ensure!(function.power_state()? == Some(PowerState::D3hot));
    ensure!(
        card.region_read(0, IVAR, &mut [0; 4]).is_err(),
        "its memory does not answer"
    );
    no_leaves(card, bar)?;
    config.set_power_state(PowerState::D0)?;
    ensure!(config.power_state()? == Some(PowerState::D0));
    leaves_again(card, bar)?;
    refused(
        config.set_power_state(PowerState::D3cold),
        ErrorKind::InvalidInput,
    )?;
    // The card has no such state.
    refused(
        config.set_power_state(PowerState::D1),
        ErrorKind::Unsupported,
    )?;
    // A reset wakes it.
    config.set_power_state(PowerState::D3hot)?;
    card.reset()?;
    ensure!(config.power_state()? == Some(PowerState::D0));
    bar.write(IVAR, 5_u32)?;
    Ok(())
}

fn type1(card: &Device) -> Result<Option<Type1>> {
    let container = card
        .container()
        .filter(|own| own.kind() == IommuKind::Type1);
    Ok(container.map(Type1::new).transpose()?)
}

/// An access would raise SIGBUS; populating returns an error instead.
fn no_leaves(card: &Device, bar: &Bar) -> Result<()> {
    if let Some(mut populate) = type1(card)? {
        let error = install(bar, &mut populate).err().context("it is asleep")?;
        ensure!(error.kind() == ErrorKind::NotMappableForDma, "{error}");
    }
    Ok(())
}

fn leaves_again(card: &Device, bar: &Bar) -> Result<()> {
    if let Some(mut populate) = type1(card)? {
        ensure!(install(bar, &mut populate)?.faults > 0);
    }
    ensure!(bar.read::<u32>(IVAR)? == 5, "it remembers");
    Ok(())
}

fn allowed(card: &Device, function: &Function, bar: &Bar) -> Result<()> {
    card.allow_low_power()?;
    asleep(function)?;
    no_leaves(card, bar)?;
    refused(card.allow_low_power(), ErrorKind::Busy)?;
    // An access wakes the device for its duration.
    let mut register = [0; 4];
    card.region_read(0, IVAR, &mut register)?;
    ensure!(register == [5, 0, 0, 0]);
    asleep(function)?;
    card.end_low_power()?;
    ensure!(function.power_state()? == Some(PowerState::D0));
    leaves_again(card, bar)?;
    card.end_low_power()?;

    let woken = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    card.allow_low_power_until_woken(woken.as_fd())?;
    asleep(function)?;
    let mut count = [0; 8];
    ensure!(rustix::io::read(&woken, &mut count) == Err(rustix::io::Errno::AGAIN));
    card.config()?.ids()?;
    if can_sleep(function) {
        ensure!(rustix::io::read(&woken, &mut count) == Ok(8));
    } else {
        card.end_low_power()?;
    }
    ensure!(function.power_state()? == Some(PowerState::D0));
    leaves_again(card, bar)
}

/// Whichever call fails, the next one works.
fn failures(card: &Device) -> Result<()> {
    let woken = eventfd(0, EventfdFlags::CLOEXEC)?;
    let work = || -> hugebar::Result<()> {
        let config = card.config()?;
        config.set_power_state(PowerState::D3hot)?;
        config.power_state()?;
        config.set_power_state(PowerState::D0)?;
        card.allow_low_power()?;
        card.end_low_power()?;
        card.allow_low_power_until_woken(woken.as_fd())?;
        card.end_low_power()
    };
    let check = |failed: &Failed<'_>, result: &hugebar::Result<()>| {
        let error = result.as_ref().err().context("it is told")?;
        ensure!(
            error.errno() == Some(failed.errno) && error.operation().contains(failed.name),
            "{error}"
        );
        let unsupported = failed.errno == libc::ENOTTY;
        ensure!(
            (error.kind() == ErrorKind::Unsupported) == unsupported,
            "{error}"
        );
        // The kernel knows the request, so its argument or the state is wrong.
        let busy = failed.errno == libc::EINVAL && failed.name == "VFIO_DEVICE_FEATURE";
        ensure!((error.kind() == ErrorKind::Busy) == busy, "{error}");
        card.end_low_power()?;
        card.config()?.set_power_state(PowerState::D0)?;
        Ok(())
    };
    Faults::of(&[libc::EIO, libc::ENOTTY, libc::EINVAL]).each(work, check)?;
    work()?;
    Ok(())
}
