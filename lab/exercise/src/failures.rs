//! Each system call fails once, from opening the device to counting its leaves, and nothing is lost.

use anyhow::{Result, ensure};
use hugebar::layout::Area;
use hugebar::pci::Address;
use hugebar::plan::Placement;
use hugebar::vfio::Backend;

use crate::bar::{self, Bar};
use crate::faults::Faults;

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

pub(crate) fn run(address: Address, backend: Backend) -> Result<()> {
    // What munmap refuses to unmap cannot be unmapped, and what the IOMMU still refers to must not be.
    let tally = Faults::of(&[libc::ENOMEM, libc::EINVAL])
        .sparing(&["munmap", "VFIO_IOMMU_UNMAP_DMA"])
        .each(|| journey(address, backend), |_, _| Ok(()))?;
    // And the device is as good as before.
    journey(address, backend)?;
    ensure!(tally.failed > tally.calls / 2, "most failures are errors");
    Ok(())
}
