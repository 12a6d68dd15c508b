//! Configuration space by name, compared with sysfs; and which parts of it are virtual.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use hugebar::ErrorKind;
use hugebar::pci::{Address, Capability, ClassCode, Command, ExtendedCapability, Function};
use hugebar::vfio::{Backend, ConfigSpace, Device, IrqKind};

use crate::bar;
use crate::faults::{Failed, Faults};

pub(crate) fn run(device: Address, card: Address, backend: Backend) -> Result<()> {
    let edu = bar::open(device, backend)?;
    let config = edu.config()?;
    ensure!(config.ids()? == (0x1234, 0x11e8));
    ensure!(config.class_code()? == ClassCode::new(0, 0xff, 0));
    ensure!(config.size() == 256 && config.extended_capabilities().next().is_none());
    as_sysfs_has_it(device, &config)?;
    of_the_driver(&config)?;
    command(&edu)?;
    refused(&edu)?;
    failures(&edu)?;

    let card = bar::open(card, backend)?;
    let config = card.config()?;
    as_sysfs_has_it(card.address().context("an address")?, &config)?;
    ensure!(config.class_code()? == ClassCode::new(2, 0, 0));
    ensure!(config.size() == 4096);
    let list: Vec<_> = config.capabilities().collect::<hugebar::Result<_>>()?;
    for id in [
        Capability::POWER,
        Capability::MSI,
        Capability::EXPRESS,
        Capability::MSIX,
    ] {
        let own = list
            .iter()
            .find(|own| own.id == id)
            .context("a capability")?;
        ensure!(config.capability(id)? == Some(own.offset));
        ensure!(config.read_u8(own.offset)? == id);
    }
    ensure!(config.capability(0x7f)?.is_none());
    let msix = config.capability(Capability::MSIX)?.context("MSI-X")?;
    let vectors = (config.read_u16(msix + 2)? & 0x7ff) + 1;
    ensure!(card.msix()?.is_some_and(|own| own.vectors == vectors));
    let errors = config.extended_capability(ExtendedCapability::ERRORS)?;
    let header = config.read_u32(errors.context("error reporting")?)?;
    ensure!(header & 0xffff == 1);
    ensure!(config.extended_capability(0x7fff)?.is_none());
    failures(&card)
}

fn as_sysfs_has_it(address: Address, config: &ConfigSpace<'_>) -> Result<()> {
    let function = Function::at(address)?;
    let hex = |name: &str| -> Result<u32> {
        let text = fs::read_to_string(format!("/sys/bus/pci/devices/{address}/{name}"))?;
        let digits = text.trim().trim_start_matches("0x");
        Ok(u32::from_str_radix(digits, 16)?)
    };
    ensure!(function.class_code()? == config.class_code()?);
    ensure!(function.ids()? == config.ids()?);
    ensure!(hex("revision")? == config.revision()?.into());
    let (vendor, device) = config.subsystem_ids()?;
    ensure!(hex("subsystem_vendor")? == vendor.into() && hex("subsystem_device")? == device.into());
    ensure!(config.status()? & 0x10 != 0, "it has capabilities");
    Ok(())
}

/// Writes that do not reach the device.
fn of_the_driver(config: &ConfigSpace<'_>) -> Result<()> {
    // This is how a BAR tells its size; the device's own does not change.
    let bar = config.read_u32(0x10)?;
    config.write_u32(0x10, u32::MAX)?;
    ensure!(config.read_u32(0x10)? == !(1_u32 << 20) + 1);
    config.write_u32(0x10, bar)?;
    ensure!(config.read_u32(0x10)? == bar);
    config.write_u16(0, 0)?;
    ensure!(config.ids()?.0 == 0x1234);
    // Nor does a write that would enable MSI.
    let msi = config.capability(Capability::MSI)?.context("MSI")?;
    let flags = config.read_u16(msi + 2)?;
    config.write_u16(msi + 2, flags | 1)?;
    ensure!(config.read_u16(msi + 2)? & 1 == 0);
    config.write_u8(0x3c, 7)?;
    ensure!(config.read_u8(0x3c)? == 7, "the driver keeps the line");
    Ok(())
}

fn command(edu: &Device) -> Result<()> {
    const SOON: Option<Duration> = Some(Duration::from_secs(20));
    const NEVER: Option<Duration> = Some(Duration::from_millis(50));
    let config = edu.config()?;
    let opened = config.command()?;
    ensure!(opened.contains(Command::MEMORY) && edu.memory_decode()?);
    ensure!(!opened.contains(Command::BUS_MASTER), "{opened:?}");
    edu.set_bus_master(true)?;
    ensure!(config.command()? == opened | Command::BUS_MASTER);
    edu.set_bus_master(false)?;
    ensure!(config.command()? == opened);

    // INTx is masked by it.
    let irq = edu.enable_irqs(IrqKind::Intx, 1)?;
    let bar = edu.map_bar(0)?;
    config.set_command(opened | Command::INTX_DISABLE)?;
    bar.write(0x60, 1_u32)?;
    ensure!(irq.wait(0, NEVER)? == 0);
    config.set_command(opened)?;
    ensure!(irq.wait(0, SOON)? == 1);
    bar.write(0x64, 1_u32)?;
    Ok(())
}

fn refused(edu: &Device) -> Result<()> {
    let config = edu.config()?;
    let wrong = |result: hugebar::Result<()>| -> Result<()> {
        let error = result.err().context("it is refused")?;
        ensure!(error.kind() == ErrorKind::InvalidInput, "{error}");
        let subject = format!(
            "{} configuration space",
            edu.address().context("an address")?
        );
        ensure!(error.subject() == subject, "{error}");
        Ok(())
    };
    wrong(config.read_u16(3).map(drop))?;
    wrong(config.write_u32(2, 0))?;
    wrong(config.read_u32(0x100).map(drop))?;
    wrong(config.write_u8(u16::MAX, 0))?;
    Ok(())
}

/// Each access fails once: the error names it, and the command register is as it was.
fn failures(device: &Device) -> Result<()> {
    let config = device.config()?;
    let opened = config.command()?;
    let told = |failed: &Failed<'_>, error: Option<&hugebar::Error>| -> Result<()> {
        let error = error.context("it is told")?;
        ensure!(error.errno() == Some(failed.errno), "{error}");
        ensure!(error.operation().contains(failed.name), "{error}");
        Ok(())
    };
    let errors = [libc::EIO, libc::EINVAL];
    let tally = Faults::of(&errors).each(
        || everything(device),
        |failed, result| {
            ensure!(config.command()? == opened);
            told(failed, result.as_ref().err())
        },
    )?;
    ensure!(tally.failed == 2 * tally.calls);
    let work = || {
        device.set_bus_master(true)?;
        device.set_bus_master(false)
    };
    Faults::of(&errors).each(work, |failed, result| {
        // It is turned on by the first half of the calls.
        let is_on = config.command()?.contains(Command::BUS_MASTER);
        ensure!(is_on == (failed.index >= failed.calls.len() / 2));
        config.set_command(opened)?;
        told(failed, result.as_ref().err())
    })?;
    // One region that cannot be queried is an error beside the others.
    let all = device.regions().len();
    let list = || Ok::<_, Error>(device.regions());
    Faults::of(&[libc::EIO]).each(list, |failed, list| {
        let list = list.as_ref().ok().context("a list")?;
        let errors: Vec<_> = list.iter().filter_map(|own| own.as_ref().err()).collect();
        // A region that the device does not have may be the one.
        ensure!(list.len() >= all && errors.len() == 1, "{list:?}");
        told(failed, Some(errors[0]))
    })?;
    // An error ends a list.
    let last = |failed: &Failed<'_>, error: Option<&hugebar::Error>| {
        ensure!(failed.made == failed.index + 1, "{} calls", failed.made);
        told(failed, error)
    };
    let list = || Ok::<_, Error>(config.capabilities().collect::<Vec<_>>());
    Faults::of(&errors).each(list, |failed, list| {
        let end = list.as_ref().ok().and_then(|list| list.last());
        last(failed, end.and_then(|end| end.as_ref().err()))
    })?;
    let list = || Ok::<_, Error>(config.extended_capabilities().collect::<Vec<_>>());
    Faults::of(&errors).each(list, |failed, list| {
        let end = list.as_ref().ok().and_then(|list| list.last());
        last(failed, end.and_then(|end| end.as_ref().err()))
    })?;
    Ok(())
}

/// Every getter and setter.
fn everything(device: &Device) -> hugebar::Result<()> {
    let config = device.config()?;
    config.ids()?;
    config.subsystem_ids()?;
    config.revision()?;
    config.class_code()?;
    config.status()?;
    config.power_state()?;
    config.capability(Capability::MSI)?;
    config.extended_capability(ExtendedCapability::ERRORS)?;
    device.memory_decode()?;
    device.msix()?;
    config.set_command(config.command()?)?;
    // The interrupt line is the driver's own.
    config.write_u8(0x3c, config.read_u8(0x3c)?)?;
    config.write_u16(0x3c, config.read_u16(0x3c)?)?;
    config.write_u32(0x3c, config.read_u32(0x3c)?)
}
