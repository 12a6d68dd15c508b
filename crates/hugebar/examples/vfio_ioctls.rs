//! Maps a BAR of a device that the crate `vfio-ioctls` has opened, as Cloud Hypervisor and other monitors do.
//!
//! ```text
//! cargo run --example vfio_ioctls -- 0000:01:00.0 2            # maps BAR 2 and shows its address
//! cargo run --example vfio_ioctls -- 0000:01:00.0 2 0x100      # reads the register at 0x100, both ways
//! cargo run --example vfio_ioctls -- 0000:01:00.0 2 0x100 7    # writes 7 to it first
//! ```
//!
//! Opening a device by VFIO resets it.

use std::error::Error;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;

use hugebar::pci::Address;
use hugebar::vfio::Device;
use vfio_ioctls::{VfioContainer, VfioDevice};

const USAGE: &str = "usage: vfio_ioctls DEVICE BAR [OFFSET [VALUE]]";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, index, rest @ ..] = words.as_slice() else {
        return Err(USAGE.into());
    };
    let (address, index): (Address, u32) = (address.parse()?, index.parse()?);

    let sysfs = PathBuf::from(format!("/sys/bus/pci/devices/{address}"));
    let container = Arc::new(VfioContainer::new(None)?);
    let opened = VfioDevice::new(&sysfs, container, false)?;

    #[allow(unsafe_code, reason = "VfioDevice has no AsFd")]
    // SAFETY: `opened` keeps its descriptor open until the end of this function.
    let fd = unsafe { BorrowedFd::borrow_raw(opened.as_raw_fd()) };
    // Its address is optional. With it, errors name the device, and sysfs has its physical addresses.
    let device = Device::borrowed(fd, Some(address))?;
    let bar = device.map_bar(index)?;
    println!("{bar}");

    if let [offset, value @ ..] = rest {
        let offset = number(offset)?;
        let register = bar.register::<u32>(offset.into())?;
        if let [value] = value {
            register.write(number(value)?);
        }
        let mut bytes = [0; 4];
        opened.region_read(index, &mut bytes, offset.into());
        let (mapped, read) = (register.read(), u32::from_le_bytes(bytes));
        println!("{mapped:#x} by the mapping, {read:#x} by vfio-ioctls");
    }
    Ok(())
}

fn number(text: &str) -> Result<u32, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    }
}
