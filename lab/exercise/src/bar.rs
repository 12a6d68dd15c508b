//! BAR 2 of a device, which is the memory of the lab's devices.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use hugebar::ErrorKind;
use hugebar::census::{Census, CensusOptions, census};
use hugebar::facts::{Facts, leaf_sizes};
use hugebar::iommu::{Container, IommuKind};
use hugebar::layout::{Area, Layout};
use hugebar::leaf::{GIB, KIB, MIB};
use hugebar::mem::{Mapping, Span, Window};
use hugebar::pci::Address;
use hugebar::plan::{Placement, Plan};
use hugebar::populate::Prefault;
use hugebar::populate::{Populate, Type1};
use hugebar::vfio::{Backend, Device, Region};

/// The page of this machine.
pub(crate) fn page() -> u64 {
    leaf_sizes().base()
}

/// The smallest leaf above it.
pub(crate) fn huge() -> u64 {
    let larger = leaf_sizes().as_slice().get(1).copied();
    larger.unwrap_or_else(page)
}

/// The largest page up to a size that an IOMMU has on a machine with these pages.
pub(crate) fn iommu_page(up_to: u64) -> u64 {
    let larger: &[u64] = match page() / KIB {
        4 => &[GIB, 2 * MIB],
        16 => &[32 * MIB],
        _ => &[512 * MIB],
    };
    let fitting = larger.iter().find(|&&size| size <= up_to);
    fitting.copied().unwrap_or_else(page)
}

/// An open device, and everything needed to map and count its BAR 2.
pub(crate) struct Bar {
    pub(crate) device: Device,
    pub(crate) region: Region,
    pub(crate) facts: Facts,
    pub(crate) populate: Box<dyn Populate>,
}

/// Opens a device of the lab by one backend.
#[allow(unsafe_code, reason = "without an IOMMU")]
pub(crate) fn open(address: Address, backend: Backend) -> hugebar::Result<Device> {
    match backend {
        // SAFETY: no scenario starts DMA on a device that it opens without an IOMMU.
        Backend::NoIommu => unsafe { Device::open_without_iommu(address) },
        _ => Device::open_by(address, backend),
    }
}

/// Where neither can: KVM of arm64 does not pre-fault.
struct Nothing;

impl Populate for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn populate(&mut self, _: &Span<'_>) -> hugebar::Result<Duration> {
        let operation = "populating without type1";
        Err(hugebar::Error::new(ErrorKind::Unsupported, operation))
    }
}

impl Bar {
    pub(crate) fn of(device: Device) -> Result<Self> {
        // If the address space cannot map device memory, KVM populates.
        let type1 = |container: &&Arc<Container>| container.kind() == IommuKind::Type1;
        let populate: Box<dyn Populate> = match device.container().filter(type1) {
            Some(container) => Box::new(Type1::new(container)?),
            None if cfg!(target_arch = "x86_64") => Box::new(Prefault::new()?),
            None => Box::new(Nothing),
        };
        Ok(Self {
            region: device.bar(2)?.region().clone(),
            facts: Facts::observe(),
            populate,
            device,
        })
    }

    pub(crate) fn layout(&self, holes: &[Area]) -> Result<Layout> {
        let mut layout = self.region.layout().clone();
        for &hole in holes {
            layout = layout.without(hole)?;
        }
        Ok(layout)
    }

    pub(crate) fn plan(&self, holes: &[Area], placement: Placement) -> Result<Plan> {
        let (layout, phys) = (self.layout(holes)?, self.device.phys(&self.region));
        Ok(Plan::new(&layout, phys, &self.facts.leaf_sizes, placement)?)
    }

    pub(crate) fn map_in(&self, plan: &Plan, window: Window) -> hugebar::Result<Mapping> {
        let options = self.region.map_options();
        Mapping::new(&self.device, self.region.offset(), plan, window, options)
    }

    pub(crate) fn map(&self, plan: &Plan) -> hugebar::Result<Mapping> {
        self.map_in(plan, Window::reserve(plan)?)
    }

    pub(crate) fn count(&mut self, mapping: &Mapping) -> hugebar::Result<Census> {
        count_by(mapping, &self.facts, self.populate.as_mut())
    }

    /// Counts an untouched mapping, and checks that it has the expected leaves.
    pub(crate) fn check(&mut self, mapping: &Mapping) -> Result<Census> {
        let expected = mapping.expected(&self.facts.device_leaf_sizes());
        let census = self.count(mapping)?;
        ensure!(
            census.complete && census.measured == expected,
            "{mapping}: expected {expected}, measured {}",
            census.measured
        );
        Ok(census)
    }
}

/// Counts by another way of populating.
pub(crate) fn count_by(
    mapping: &Mapping,
    facts: &Facts,
    populate: &mut dyn Populate,
) -> hugebar::Result<Census> {
    let progress = &mut |_| ControlFlow::Continue(());
    let options = CensusOptions {
        limit: None,
        progress,
    };
    census(mapping, facts, populate, options)
}
