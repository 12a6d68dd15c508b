//! Memory decode: while it is off, a mapping can neither be populated nor counted, and the reason says
//! so; once it is on again, everything works as before.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use hugebar::ErrorKind;
use hugebar::census::{CensusOptions, census};
use hugebar::dma::DmaBuffer;
use hugebar::iommu::DmaAccess;
use hugebar::leaf::{GIB, KIB};
use hugebar::mem::Mapping;
use hugebar::pci::{Address, Command, Function};
use hugebar::plan::Placement;
use hugebar::populate::install;
use hugebar::reason::{self, Code};
use hugebar::vfio::{Backend, Device};

use crate::bar::{self, Bar};

/// The command register, and its bit for memory decode.
const COMMAND: u64 = 4;
const MEMORY: u8 = 1 << 1;

/// Through VFIO, on a device that we have open.
pub(crate) fn run(address: Address, backend: Backend) -> Result<()> {
    let mut bar = Bar::of(bar::open(address, backend)?)?;
    let plan = bar.plan(&[], Placement::Congruent)?;

    switch(&bar.device, false)?;
    ensure!(!bar.device.memory_decode()?);
    let mapping = bar.map(&plan)?;
    let options = CensusOptions {
        limit: None,
        progress: &mut |_| ControlFlow::Continue(()),
    };
    let refused = census(&mapping, &bar.facts, bar.populate.as_mut(), options);
    let error = refused.err().context("counted without memory decode")?;
    ensure!(error.kind() == ErrorKind::NotMappableForDma, "{error}");
    let reason = reason::uncounted(&error, bar.device.memory_decode().ok());
    ensure!(reason.code == Code::DecodeOff, "{reason}");
    println!("{reason}");

    switch(&bar.device, true)?;
    ensure!(bar.device.memory_decode()?);
    // The refused calls have left nothing behind.
    let leaves = bar.check(&mapping)?.measured.total();
    installed_anew(&mut bar, &mapping, leaves)?;
    match backend {
        // On arm64 the IOMMU has other pages.
        Backend::Type1 if cfg!(target_arch = "x86_64") => decoded(&bar, &mapping, address),
        _ => Ok(()),
    }
}

/// No memory gets an I/O address that the device decodes itself, even if all below are used.
#[allow(unsafe_code, reason = "a part of a BAR for DMA")]
fn decoded(bar: &Bar, mapping: &Mapping, address: Address) -> Result<()> {
    let space = bar.device.address_space()?;
    let small = Function::at(address)?.resources()?[0];
    let small = small.context("BAR 0, of 32 bits")?;
    let first = DmaBuffer::below(&space, 4 * KIB, small.start)?.iova();
    // The large BAR fills all from there on, by large pages of the IOMMU.
    let offset = first % GIB;
    let start = mapping.pointer(offset, 0)?;
    // SAFETY: the mapping outlives this function.
    let below = unsafe { space.map_raw(start, small.start - first, DmaAccess::Read, small.start) }?;
    ensure!(below.iova() == first, "{below:?}");
    let buffer = DmaBuffer::below(&space, 4 * KIB, 4 * GIB)?;
    let behind = small.start + small.size;
    ensure!(
        buffer.iova() >= behind,
        "{:#x} is in {small:?}",
        buffer.iova()
    );
    println!("below 4 GiB {:#x} is free, behind {small:?}", buffer.iova());
    Ok(())
}

/// One call installs the leaves that decode removed, and then none is missing.
fn installed_anew(bar: &mut Bar, mapping: &Mapping, leaves: u64) -> Result<()> {
    let nothing = install(mapping, bar.populate.as_mut())?;
    ensure!(nothing.faults == 0, "nothing was missing: {nothing:?}");
    switch(&bar.device, false)?;
    let error = install(mapping, bar.populate.as_mut()).err();
    let kind = error.context("installed without memory decode")?.kind();
    ensure!(kind == ErrorKind::NotMappableForDma, "{kind:?}");
    switch(&bar.device, true)?;
    let anew = install(mapping, bar.populate.as_mut())?;
    // Before huge leaves one fault fills the area.
    let due = match bar.facts.device_leaf_sizes().as_slice() {
        [_] => 1,
        _ => leaves,
    };
    ensure!(anew.faults == due, "{leaves} leaves: {anew:?}");
    let nothing = install(mapping, bar.populate.as_mut())?;
    ensure!(nothing.faults == 0, "all are there: {nothing:?}");
    Ok(())
}

pub(crate) fn switch(device: &Device, on: bool) -> Result<()> {
    let config = device.config()?;
    let mut command = config.command()?;
    command.set(Command::MEMORY, on);
    Ok(config.set_command(command)?)
}

/// Through sysfs, on a device that no process has open.
pub(crate) fn switch_off(address: Address) -> Result<()> {
    let path = format!("/sys/bus/pci/devices/{address}/config");
    let file = File::options().read(true).write(true).open(path)?;
    let mut command = [0];
    file.read_exact_at(&mut command, COMMAND)?;
    file.write_all_at(&[command[0] & !MEMORY], COMMAND)?;
    file.read_exact_at(&mut command, COMMAND)?;
    ensure!(command[0] & MEMORY == 0, "{command:?}");
    Ok(())
}
