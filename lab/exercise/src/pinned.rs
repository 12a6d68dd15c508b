//! A mapping that the IOMMU cannot be made to forget stays where it is: what came to lie at its addresses
//! would be within reach of devices.

use anyhow::{Context, Result, ensure};
use hugebar::pci::Address;
use hugebar::plan::Placement;
use hugebar::seam::{Fault, fail, record};
use hugebar::vfio::Device;

use crate::bar::Bar;
use crate::state::State;

const UNMAP: &str = "VFIO_IOMMU_UNMAP_DMA";

/// Maps and counts; the mapping is dropped in the end.
fn journey(address: Address) -> Result<()> {
    let mut bar = Bar::of(Device::open(address)?)?;
    let mapping = bar.map(&bar.plan(&[], Placement::Congruent)?)?;
    bar.check(&mapping)?;
    Ok(())
}

pub(crate) fn run(address: Address) -> Result<()> {
    let (result, calls) = record(|| journey(address));
    result?;
    // The last one is of the mapping, the first ones are of the page that the count warms up on.
    let after = calls.iter().rposition(|name| *name == UNMAP);
    let fault = Fault {
        after: after.context("an unmapping")?,
        errno: libc::EIO,
        harm: true,
        meanwhile: None,
    };
    let before = State::observe()?;
    let (result, _) = fail(fault, || journey(address));
    let error = result.err().context("the count fails")?;
    ensure!(error.to_string().contains(UNMAP), "{error}");
    let left = before.unchanged().err().context("the mapping stays")?;
    ensure!(left.to_string().contains("rw-s"), "{left}");
    Ok(())
}
