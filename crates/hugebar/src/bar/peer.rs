//! Mapping a BAR into an address space: [`AddressSpace::map_bar`].

use std::os::fd::AsFd;

use crate::dma::PeerMapping;
use crate::error::{Error, ErrorKind, Result};
use crate::iommu::AddressSpace;
use crate::vfio::Device;

use super::Bar;

impl AddressSpace {
    /// Maps a BAR for peer-to-peer DMA by the devices of this address space. Its I/O addresses are congruent to the physical
    /// ones, for the largest pages of the IOMMU. A type1 container maps it by its address in this process
    /// (`VFIO_IOMMU_MAP_DMA`), an iommufd by a dma-buf for each area (`IOMMU_IOAS_MAP_FILE`).
    ///
    /// `device` is the device of the BAR. It may be in this address space or in another one.
    ///
    /// Whether transfers between two devices work depends on the machine: on the switches and root ports between them, and
    /// on access control (ACS).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the kernel cannot map BARs here: a driver can go on, and copy through memory instead.
    /// [`ErrorKind::NotMappableForDma`] while memory decode of the device is off, [`ErrorKind::OutOfMemory`] if no I/O
    /// addresses are left for the whole region, [`ErrorKind::InvalidInput`] for another device's BAR.
    pub fn map_bar<F: AsFd>(&self, device: &Device<F>, bar: &Bar) -> Result<PeerMapping> {
        self.map_bar_below(device, bar, u64::MAX)
    }

    /// Like [`AddressSpace::map_bar`], but below an I/O address, for devices with fewer address bits.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::map_bar`].
    pub fn map_bar_below<F: AsFd>(
        &self,
        device: &Device<F>,
        bar: &Bar,
        limit: u64,
    ) -> Result<PeerMapping> {
        let index = bar.region().index();
        if let (Some(theirs), Some(own)) = (device.address(), bar.function) {
            if theirs != own {
                let operation = format!("the BAR belongs to {own}");
                return Err(Error::new(ErrorKind::InvalidInput, operation).on(theirs));
            }
        }
        let export = |area| device.dma_buf(index, area);
        PeerMapping::new(device.subject(index), self, bar.mapping(), limit, export)
    }
}
