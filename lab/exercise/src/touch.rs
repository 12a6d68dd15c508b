//! A guest that touches a BAR: what its monitor's way of mapping costs both.

#![allow(unsafe_code, reason = "memory for a guest and for DMA")]

use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hugebar::facts::Status;
use hugebar::iommu::DmaAccess;
use hugebar::kvm::second_stage;
use hugebar::layout::{Area, Layout};
use hugebar::leaf::{GIB, KIB, Leaves, MIB};
use hugebar::pci::Address;
use hugebar::vfio::{Backend, Device};

use crate::preloaded::{as_cloud_hypervisor, unmap};
use crate::vcpu::Machine;

/// How the BAR is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// Each area by itself.
    CloudHypervisor,
    /// By the library, whole; what is left out is left out of the guest's slots.
    Hugebar,
}

/// No device of the lab has an MSI-X table in a large BAR, so a page is left out where one could be.
const HOLE: Area = Area::new(24 * KIB, 4 * KIB);

/// A guest address that is a multiple of every leaf.
const FREE: u64 = 64 * GIB;

/// The distance of the guest's accesses.
const STEP: u64 = 2 * MIB;

/// A part of the BAR in this process.
struct Part {
    area: Area,
    start: NonNull<u8>,
}

/// Maps BAR 2, gives it to the IOMMU and to a guest, and has the guest read from every 2 MiB. Prints as JSON what that took.
pub(crate) fn run(address: Address, way: Way, hole: bool) -> Result<()> {
    let device = Device::open_by(address, Backend::Type1)?;
    let region = device.region(2)?.context("BAR 2")?;
    let space = device.address_space()?;
    let holes = if hole { vec![HOLE] } else { Vec::new() };
    let mut machine = Machine::new()?;
    machine.read(0, 0, 1)?;
    let before = (page_tables()?, second_stage(machine.vm())?);

    let mut own = None;
    let parts = match way {
        Way::CloudHypervisor => {
            let whole = Layout::whole(region.size(), 4 * KIB)?;
            let carve = |layout: Layout, hole: &Area| layout.without(*hole);
            let layout = holes.iter().try_fold(whole, carve)?;
            let map = |&area: &Area| -> Result<Part> {
                let (offset, length) = (region.offset() + area.offset, usize::try_from(area.size)?);
                let start = as_cloud_hypervisor(&device, offset, length)?;
                Ok(Part { area, start })
            };
            layout.areas().iter().map(map).collect::<Result<Vec<_>>>()?
        }
        Way::Hugebar => {
            let mapping = own.insert(device.map_bar(2)?);
            let slots = mapping.slots(&holes)?;
            let part = |slot: hugebar::guest::Slot| -> Result<Part> {
                let address = usize::try_from(slot.address)?;
                let start = NonNull::new(ptr::with_exposed_provenance_mut(address));
                Ok(Part {
                    area: slot.area,
                    start: start.context("an address")?,
                })
            };
            slots.into_iter().map(part).collect::<Result<_>>()?
        }
    };
    let mut guards = Vec::new();
    let mut map_for_dma = || -> Result<()> {
        for Part { area, start } in &parts {
            // SAFETY: the parts stay mapped until the guards are gone.
            let guard = unsafe { space.map_raw(*start, area.size, DmaAccess::ReadWrite, u64::MAX) };
            guards.push(guard?);
        }
        Ok(())
    };
    let dma_map = timed(&mut map_for_dma)?;
    for Part { area, start } in &parts {
        // SAFETY: the parts stay mapped until the machine is gone.
        unsafe { machine.add(FREE + area.offset, *start, area.size) }?;
    }
    let touched = region.size() / STEP;
    let touch = timed(&mut || machine.read(FREE, STEP, touched))?;
    let leaves = second_stage(machine.vm())?;
    let again = timed(&mut || machine.read(FREE, STEP, touched))?;
    ensure!(
        second_stage(machine.vm())? == leaves,
        "the guest has kept its leaves"
    );

    let grown = page_tables()?.saturating_sub(before.0);
    let count = |size| leaves.count(size) - before.1.count(size);
    println!(
        "{{\"page_tables\": {grown}, \"guest_leaves\": {}, \"dma_map\": {}, \"touch\": {}, \"again\": {}}}",
        json(&leaves, count),
        dma_map.as_nanos(),
        touch.as_nanos(),
        again.as_nanos()
    );
    guards.into_iter().try_for_each(|guard| guard.unmap())?;
    drop(machine);
    if way == Way::CloudHypervisor {
        for Part { area, start } in parts {
            unmap(start.addr().get(), usize::try_from(area.size)?)?;
        }
    }
    drop(own);
    Ok(())
}

/// Leaves by size, as `hugebar map --json` has them.
fn json(leaves: &Leaves, count: impl Fn(u64) -> u64) -> String {
    let each = leaves
        .iter()
        .map(|(size, _)| format!("\"{size}\": {}", count(size)));
    format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
}

fn timed(work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed())
}

/// The size of this process's page tables in bytes.
fn page_tables() -> Result<u64> {
    Status::own()?.vm_pte.context("VmPTE")
}
