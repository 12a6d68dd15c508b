//! Each system call fails once, from opening the device to counting its leaves, and nothing is lost.

use anyhow::{Result, ensure};
use hugebar::layout::Area;
use hugebar::leaf::{GIB, KIB};
use hugebar::pci::Address;
use hugebar::plan::Placement;
use hugebar::seam::{Fault, fail, record};
use hugebar::vfio::Backend;

use crate::bar::{self, Bar};
use crate::state::State;

/// Opens, maps with a hole, counts, maps again, and closes.
fn journey(address: Address, backend: Backend) -> Result<()> {
    let mut bar = Bar::of(bar::open(address, backend)?)?;
    // About one leaf of each size, to keep the calls few.
    let holes = [Area::new(GIB + 4 * KIB, bar.region.size() - GIB - 4 * KIB)];
    let plan = bar.plan(&holes, Placement::Congruent)?;
    let mapping = bar.map(&plan)?;
    bar.check(&mapping)?;
    let window = mapping.into_window()?;
    let mapping = bar.map_in(&plan, window)?;
    bar.check(&mapping)?;
    Ok(())
}

pub(crate) fn run(address: Address, backend: Backend) -> Result<()> {
    let before = State::observe()?;
    let (result, calls) = record(|| journey(address, backend));
    result?;
    before.unchanged()?;
    let (mut failed, mut survived) = (0, 0);
    for (index, name) in calls.iter().enumerate() {
        for errno in [libc::ENOMEM, libc::EINVAL] {
            // What munmap refuses to unmap cannot be unmapped, and what the IOMMU still refers to
            // must not be.
            if ["munmap", "VFIO_IOMMU_UNMAP_DMA"].contains(name) {
                continue;
            }
            let fault = Fault {
                after: index,
                errno,
                harm: true,
                meanwhile: None,
            };
            let (result, seen) = fail(fault, || journey(address, backend));
            ensure!(seen.get(index) == Some(name), "call {index} was {name}");
            match result {
                Ok(()) => survived += 1,
                Err(error) => {
                    failed += 1;
                    let line = error.to_string();
                    ensure!(!line.contains('\n') && !line.is_empty(), "one line: {line}");
                }
            }
            before.unchanged().map_err(|left| {
                left.context(format!("after {name}, call {index}, errno {errno}"))
            })?;
        }
    }
    // And the device is as good as before.
    journey(address, backend)?;
    println!(
        "{} calls: {failed} failures reported, {survived} survived",
        calls.len()
    );
    ensure!(failed > calls.len() / 2, "most failures are errors");
    Ok(())
}
