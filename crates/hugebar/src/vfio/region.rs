//! Regions: the answer of `VFIO_DEVICE_GET_REGION_INFO`, and the layout that follows from it.

use bitflags::bitflags;
use zerocopy::FromBytes;

use crate::caps::{self, RawCapability};
use crate::error::Result;
use crate::layout::{Area, Layout};
use crate::sys::abi::{self, RegionInfo, RegionType};

bitflags! {
    /// The access that a region supports (`VFIO_REGION_INFO_FLAG_*`). Unknown bits are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct RegionFlags: u32 {
        /// It can be read.
        const READ = 1 << 0;
        /// It can be written.
        const WRITE = 1 << 1;
        /// It can be mapped.
        const MMAP = 1 << 2;
        /// It has capabilities.
        const CAPS = 1 << 3;
        const _ = !0;
    }
}

/// What a driver reports about a region beyond size and flags.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability {
    /// Only these areas can be mapped (`VFIO_REGION_INFO_CAP_SPARSE_MMAP`), as the driver lists them.
    SparseMmap(Vec<Area>),
    /// A region that only this kind of device has (`VFIO_REGION_INFO_CAP_TYPE`).
    Type {
        /// Vendor or class of devices.
        kind: u32,
        /// Which of its regions.
        subtype: u32,
    },
    /// The MSI-X table may be mapped with the rest (`VFIO_REGION_INFO_CAP_MSIX_MAPPABLE`).
    MsixMappable,
    /// A capability that this crate does not know, or not in this version.
    Other {
        /// The kernel's number for it.
        id: u16,
        /// The version of its content.
        version: u16,
    },
}

/// A region of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    index: u32,
    size: u64,
    offset: u64,
    flags: RegionFlags,
    capabilities: Vec<Capability>,
    layout: Layout,
}

impl Region {
    /// Parses the kernel's answer.
    ///
    /// `msix` is where the MSI-X table lies, if it lies in this region. `page` is the page size.
    pub(super) fn parse(
        info: &RegionInfo,
        answer: &[u8],
        msix: Option<Area>,
        page: u64,
    ) -> Result<Self> {
        let first = match (info.flags & abi::REGION_CAPS, info.cap_offset) {
            (0, _) => 0,
            // The kernel returns this if its answer does not fit. Without the capabilities it is
            // unknown what may be mapped.
            (_, 0) => return Err(caps::malformed("capabilities without an offset".to_owned())),
            (_, first) => first,
        };
        let chain = caps::chain(answer, size_of::<RegionInfo>(), first)?;
        caps::only(&chain, abi::CAP_SPARSE_MMAP, 1)?;
        let capabilities = chain.iter().map(capability).collect::<Result<Vec<_>>>()?;
        let flags = RegionFlags::from_bits_retain(info.flags);
        let layout = match flags.contains(RegionFlags::MMAP) {
            true => layout(info.size, &capabilities, msix, page)?,
            false => unmappable(info.size, page)?,
        };
        Ok(Self {
            index: info.index,
            size: info.size,
            offset: info.offset,
            flags,
            capabilities,
            layout,
        })
    }

    /// The region's number: for `vfio-pci` 0 to 5 are the BARs, 6 the ROM, 7 configuration space,
    /// 8 VGA.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where the region starts in the device's file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The access that it supports.
    pub fn flags(&self) -> RegionFlags {
        self.flags
    }

    /// The driver's further capabilities, in its order.
    pub fn capabilities(&self) -> &[Capability] {
        &self.capabilities
    }

    /// Whether the driver offers a mapping of some part of it.
    pub fn is_mappable(&self) -> bool {
        !self.layout.areas().is_empty()
    }

    /// The areas that can be mapped: the driver's sparse areas if it lists any, otherwise the whole
    /// region except the pages of the MSI-X table, unless the driver allows those to be mapped too. None if
    /// the driver offers no mapping.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

fn capability(raw: &RawCapability<'_>) -> Result<Capability> {
    // Each of these is known in its first version; others may have other contents.
    Ok(match (raw.id, raw.version) {
        (abi::CAP_SPARSE_MMAP, 1) => {
            let pairs = caps::pairs(raw.body)?;
            let areas = pairs.iter().map(|pair| Area::new(pair.first, pair.second));
            Capability::SparseMmap(areas.collect())
        }
        (abi::CAP_TYPE, 1) => {
            let (body, _) = RegionType::read_from_prefix(raw.body)
                .map_err(|_| caps::malformed("a type capability is truncated".to_owned()))?;
            Capability::Type {
                kind: body.kind,
                subtype: body.subtype,
            }
        }
        (abi::CAP_MSIX_MAPPABLE, 1) => Capability::MsixMappable,
        (id, version) => Capability::Other { id, version },
    })
}

fn unmappable(size: u64, page: u64) -> Result<Layout> {
    let layout = Layout::with_areas(size, page, []);
    layout.map_err(|error| caps::malformed(error.to_string()))
}

fn layout(size: u64, caps: &[Capability], msix: Option<Area>, page: u64) -> Result<Layout> {
    let sparse = caps.iter().find_map(|capability| match capability {
        Capability::SparseMmap(areas) => Some(areas),
        _ => None,
    });
    let layout = match (sparse, msix) {
        (Some(areas), _) => Layout::with_areas(size, page, areas.iter().copied()),
        // A table beyond the end of its BAR is the device's error, and is ignored.
        (None, Some(table)) if table.offset < size && !caps.contains(&Capability::MsixMappable) => {
            let inside = Area::new(table.offset, table.size.min(size - table.offset));
            Layout::whole(size, page).and_then(|whole| whole.without(inside))
        }
        _ => Layout::whole(size, page),
    };
    layout.map_err(|error| caps::malformed(error.to_string()))
}

#[cfg(test)]
#[path = "region_tests.rs"]
mod tests;
