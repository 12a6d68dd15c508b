//! Parts of BARs as dma-bufs, for other drivers to map.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::Area;
use crate::sys::vfio;

use super::Device;

impl<F: AsFd> Device<F> {
    /// Exports a part of a BAR as a dma-buf (`VFIO_DEVICE_FEATURE_DMA_BUF`, Linux 6.19 with `CONFIG_VFIO_PCI_DMABUF`), which
    /// an iommufd, an RDMA driver or a GPU driver can map for peer-to-peer DMA. It is close-on-exec.
    ///
    /// The kernel revokes it when the device's memory decode is turned off, when the device is reset, and when it is closed.
    /// It cannot be mapped by `mmap`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the kernel, the driver or the platform does not support it, and for parts that are not
    /// whole pages.
    pub fn dma_buf(&self, index: u32, area: Area) -> Result<OwnedFd> {
        let Area { offset, size } = area;
        let exported = vfio::device_feature_dma_buf(self.as_fd(), index, offset, size);
        exported.map_err(|errno| {
            let error = Error::call(vfio::DEVICE_FEATURE_DMA_BUF.name, errno);
            let error = match errno {
                Errno::NOTTY | Errno::INVAL | Errno::OPNOTSUPP => {
                    error.of_kind(ErrorKind::Unsupported).with_remedy(
                        "BARs as dma-bufs need Linux 6.19 with CONFIG_VFIO_PCI_DMABUF; a type1 container maps BARs \
                         without",
                    )
                }
                _ => error,
            };
            error.on(self.subject(index))
        })
    }
}
