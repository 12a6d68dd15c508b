//! A mapping that the IOMMU fails to remove stays in place: anything placed at its addresses later
//! would be within reach of devices.

use anyhow::{Context, Result, ensure};
use hugebar::pci::Address;
use hugebar::plan::Placement;
use hugebar::seam::{Fault, fail, record};
use hugebar::vfio::Device;

use crate::bar::Bar;
use crate::state::State;

const UNMAP: &str = "VFIO_IOMMU_UNMAP_DMA";

/// Maps and counts; the mapping is dropped at the end.
fn journey(address: Address) -> Result<()> {
    let mut bar = Bar::of(Device::open(address)?)?;
    let mapping = bar.map(&bar.plan(&[], Placement::Congruent)?)?;
    bar.check(&mapping)?;
    Ok(())
}

pub(crate) fn run(address: Address) -> Result<()> {
    let (result, calls) = record(|| journey(address));
    result?;
    // The last one is the mapping's, the first ones are those of the count's warm-up page.
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
