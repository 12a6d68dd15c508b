//! A BAR in an address space: [`AddressSpace::map_bar`].

use std::os::fd::AsFd;

use crate::dma::PeerMapping;
use crate::error::{Error, ErrorKind, Result};
use crate::iommu::AddressSpace;
use crate::vfio::Device;

use super::Bar;

impl AddressSpace {
    /// Maps a BAR for peer-to-peer DMA: the devices of this address space then read and write it, at I/O addresses
    /// congruent with the physical ones for the largest pages of the IOMMU. A type1 container maps it by its address
    /// (`VFIO_IOMMU_MAP_DMA`), an iommufd by a dma-buf for each area (`IOMMU_IOAS_MAP_FILE`).
    ///
    /// `device` is the one that the BAR is of. It may be in this address space or in another.
    ///
    /// Whether transfers get through between two devices is up to the machine: the switches and root ports between
    /// them, and access control (ACS).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] where the kernel maps no BARs there, which a driver can do without: copy by way of
    /// memory then. [`ErrorKind::NotMappableForDma`] while memory decode of the device is off,
    /// [`ErrorKind::OutOfMemory`] where no I/O addresses are left for all of the region,
    /// [`ErrorKind::InvalidInput`] for another device's BAR.
    pub fn map_bar<F: AsFd>(&self, device: &Device<F>, bar: &Bar) -> Result<PeerMapping> {
        self.map_bar_below(device, bar, u64::MAX)
    }

    /// As [`AddressSpace::map_bar`], below an I/O address: for devices that reach fewer bits.
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
                let operation = format!("the BAR is one of {own}");
                return Err(Error::new(ErrorKind::InvalidInput, operation).on(theirs));
            }
        }
        let export = |area| device.dma_buf(index, area);
        PeerMapping::new(device.subject(index), self, bar.mapping(), limit, export)
    }
}
