//! A device that `vfio-ioctls` has opened: its descriptor works with `Mapping`.

#![allow(unsafe_code, reason = "borrows a descriptor of a crate without AsFd")]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use hugebar::facts::Facts;
use hugebar::layout::Layout;
use hugebar::mem::{MapOptions, Mapping, Window};
use hugebar::pci::Address;
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan};
use vfio_ioctls::{VfioContainer, VfioDevice};

pub(crate) fn run(address: Address) -> Result<()> {
    let container = Arc::new(VfioContainer::new(None)?);
    let sysfs = PathBuf::from(format!("/sys/bus/pci/devices/{address}"));
    let device = VfioDevice::new(&sysfs, container, false)?;
    let sizes = Facts::observe().leaf_sizes;
    let layout = Layout::whole(device.get_region_size(2), sizes.base())?;
    let plan = Plan::new(&layout, Phys::Natural, &sizes, Placement::Congruent)?;
    // SAFETY: the device is open until the end of this function.
    let fd = unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) };
    let window = Window::reserve(&plan)?;
    let offset = device.get_region_offset(2);
    let mapping = Mapping::new(fd, offset, &plan, window, MapOptions::default())?;
    ensure!(mapping.expected(&sizes) == plan.best());
    // Both ways to the same register.
    mapping.write_u32(0x100, 0x5566_7788)?;
    let mut bytes = [0; 4];
    device.region_read(2, &mut bytes, 0x100);
    ensure!(u32::from_le_bytes(bytes) == 0x5566_7788, "{bytes:x?}");
    Ok(())
}
