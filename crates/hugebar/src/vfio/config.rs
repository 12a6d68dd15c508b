//! Configuration space of an open device, by name.

use std::os::fd::{AsFd, OwnedFd};

use crate::error::{Error, ErrorKind, Result};
use crate::pci::{
    Capabilities, Capability, ClassCode, Command, ExtendedCapabilities, ExtendedCapability,
};
use crate::sys::abi::{self, RegionInfo};

use super::Device;
use super::device::named;

/// `linux/pci_regs.h`.
const VENDOR: u16 = 0x00;
const COMMAND: u16 = 0x04;
const STATUS: u16 = 0x06;
const REVISION: u16 = 0x08;
const SUBSYSTEM: u16 = 0x2c;

/// Configuration space of a device, read and written through VFIO (`pread`, `pwrite`).
///
/// `vfio-pci` virtualizes some of it (`drivers/vfio/pci/vfio_pci_config.c`):
///
/// * Vendor and device id, the BARs, the ROM address and the interrupt line and pin are virtual. A BAR can be written, as a
///   guest does to size it, but the device's own does not change.
/// * Writes to the command register reach the device. Without memory decode ([`Command::MEMORY`]) all mappings of its
///   BARs lose their leaves, and accessing them raises SIGBUS. [`Command::INTX_DISABLE`] is virtual: it masks INTx.
/// * MSI and MSI-X cannot be enabled or set up here: use [`Device::enable_irqs`].
/// * `vfio-pci` sets the power state, and saves and restores what the device loses by it.
/// * A function reset requested in the PCI Express or advanced features capability becomes a reset by the kernel, as by
///   [`Device::reset`].
/// * Capabilities unknown to `vfio-pci` are left out of the lists; vendor-specific ones are passed through.
///
/// Each read and write is a single access. Changing one bit takes a read and a write: another thread's change in between
/// is lost.
///
/// ```no_run
/// use hugebar::{pci::Capability, vfio::Device};
/// let device = Device::open("0000:01:00.0".parse()?)?;
/// let config = device.config()?;
/// println!("{} {:x?}", config.class_code()?, config.ids()?);
/// if let Some(express) = config.capability(Capability::EXPRESS)? {
///     println!("device control: {:#x}", config.read_u16(express + 8)?);
/// }
/// # Ok::<(), hugebar::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ConfigSpace<'device, F: AsFd = OwnedFd> {
    device: &'device Device<F>,
    info: RegionInfo,
}

impl<F: AsFd> Device<F> {
    /// Returns the device's configuration space (`VFIO_DEVICE_GET_REGION_INFO`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for a device that is not PCI.
    pub fn config(&self) -> Result<ConfigSpace<'_, F>> {
        if !self.is_pci() {
            let operation = "configuration space: not a PCI device";
            let error = Error::new(ErrorKind::Unsupported, operation);
            return Err(named(error, self.address()));
        }
        let (info, _) = self.region_info(abi::PCI_CONFIG_REGION)?;
        Ok(ConfigSpace { device: self, info })
    }

    /// Turns bus mastering on or off ([`Command::BUS_MASTER`]). Without it the device does no DMA and sends no MSI or MSI-X
    /// interrupts. Opening a device turns it off.
    ///
    /// # Errors
    ///
    /// As [`Device::config`] and [`ConfigSpace::read_u16`].
    pub fn set_bus_master(&self, on: bool) -> Result<()> {
        let config = self.config()?;
        let mut command = config.command()?;
        command.set(Command::BUS_MASTER, on);
        config.set_command(command)
    }

    /// Whether memory decode is on ([`Command::MEMORY`]). Virtual functions have no such bit.
    ///
    /// # Errors
    ///
    /// As [`Device::config`] and [`ConfigSpace::read_u16`].
    pub fn memory_decode(&self) -> Result<bool> {
        Ok(self.config()?.command()?.contains(Command::MEMORY))
    }
}

impl<F: AsFd> ConfigSpace<'_, F> {
    /// The size in bytes: 256, or 4096 with extended configuration space.
    pub fn size(&self) -> u64 {
        self.info.size
    }

    /// Reads a byte.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] beyond the end, otherwise the driver's error.
    pub fn read_u8(&self, offset: u16) -> Result<u8> {
        self.read(offset).map(u8::from_le_bytes)
    }

    /// Reads two bytes, little-endian, at an even offset. Errors as for [`ConfigSpace::read_u8`].
    pub fn read_u16(&self, offset: u16) -> Result<u16> {
        self.read(offset).map(u16::from_le_bytes)
    }

    /// Reads four bytes, little-endian, at an offset that is a multiple of 4. Errors as for [`ConfigSpace::read_u8`].
    pub fn read_u32(&self, offset: u16) -> Result<u32> {
        self.read(offset).map(u32::from_le_bytes)
    }

    /// Writes a byte. Read-only bits keep their value, without an error. Errors as for [`ConfigSpace::read_u8`].
    pub fn write_u8(&self, offset: u16, value: u8) -> Result<()> {
        self.write(offset, &value.to_le_bytes())
    }

    /// Writes two bytes, little-endian, at an even offset, like [`ConfigSpace::write_u8`].
    pub fn write_u16(&self, offset: u16, value: u16) -> Result<()> {
        self.write(offset, &value.to_le_bytes())
    }

    /// Writes four bytes, little-endian, at an offset that is a multiple of 4, like [`ConfigSpace::write_u8`].
    pub fn write_u32(&self, offset: u16, value: u32) -> Result<()> {
        self.write(offset, &value.to_le_bytes())
    }

    /// Vendor and device id.
    pub fn ids(&self) -> Result<(u16, u16)> {
        Ok((self.read_u16(VENDOR)?, self.read_u16(VENDOR + 2)?))
    }

    /// Subsystem vendor and device id.
    pub fn subsystem_ids(&self) -> Result<(u16, u16)> {
        Ok((self.read_u16(SUBSYSTEM)?, self.read_u16(SUBSYSTEM + 2)?))
    }

    /// The revision id.
    pub fn revision(&self) -> Result<u8> {
        self.read_u8(REVISION)
    }

    /// The class code.
    pub fn class_code(&self) -> Result<ClassCode> {
        let [_, interface, subclass, class] = self.read(REVISION)?;
        Ok(ClassCode::new(class, subclass, interface))
    }

    /// The command register.
    pub fn command(&self) -> Result<Command> {
        self.read_u16(COMMAND).map(Command::from_bits_retain)
    }

    /// Writes the command register. Turning memory decode off removes the leaves of all mappings.
    pub fn set_command(&self, command: Command) -> Result<()> {
        self.write_u16(COMMAND, command.bits())
    }

    /// The status register (`PCI_STATUS_*`).
    pub fn status(&self) -> Result<u16> {
        self.read_u16(STATUS)
    }

    /// Iterates over the capabilities in the first 256 bytes, reading one at a time.
    pub fn capabilities(&self) -> impl Iterator<Item = Result<Capability>> {
        Capabilities::new(|offset, buffer: &mut [u8]| self.fill(offset, buffer))
    }

    /// The offset of the first capability with an id, such as [`Capability::EXPRESS`].
    pub fn capability(&self, id: u8) -> Result<Option<u16>> {
        let wanted = |own: &Result<Capability>| own.as_ref().map_or(true, |own| own.id == id);
        let found = self.capabilities().find(wanted).transpose()?;
        Ok(found.map(|own| own.offset))
    }

    /// Iterates over the capabilities in extended configuration space, if there is any.
    pub fn extended_capabilities(&self) -> impl Iterator<Item = Result<ExtendedCapability>> {
        let all = (self.size() > 256).then(|| {
            ExtendedCapabilities::new(|offset, buffer: &mut [u8]| self.fill(offset, buffer))
        });
        all.into_iter().flatten()
    }

    /// The offset of the first extended capability with an id, such as [`ExtendedCapability::SRIOV`].
    pub fn extended_capability(&self, id: u16) -> Result<Option<u16>> {
        let wanted =
            |own: &Result<ExtendedCapability>| own.as_ref().map_or(true, |own| own.id == id);
        let found = self.extended_capabilities().find(wanted).transpose()?;
        Ok(found.map(|own| own.offset))
    }

    pub(super) fn device(&self) -> &Device<F> {
        self.device
    }

    fn read<const LEN: usize>(&self, offset: u16) -> Result<[u8; LEN]> {
        self.aligned(offset, LEN)?;
        let mut bytes = [0; LEN];
        self.fill(offset, &mut bytes)?;
        Ok(bytes)
    }

    fn fill(&self, offset: u16, buffer: &mut [u8]) -> Result<()> {
        let (index, offset) = (abi::PCI_CONFIG_REGION, offset.into());
        self.device.read_exactly(index, &self.info, offset, buffer)
    }

    fn write(&self, offset: u16, bytes: &[u8]) -> Result<()> {
        self.aligned(offset, bytes.len())?;
        let (index, offset) = (abi::PCI_CONFIG_REGION, offset.into());
        self.device.write_exactly(index, &self.info, offset, bytes)
    }

    /// The driver would split an unaligned access.
    fn aligned(&self, offset: u16, len: usize) -> Result<()> {
        if usize::from(offset) % len == 0 {
            return Ok(());
        }
        let operation = format!("{len} bytes at {offset:#x} are not aligned");
        let subject = self.device.subject(abi::PCI_CONFIG_REGION);
        Err(Error::new(ErrorKind::InvalidInput, operation).on(subject))
    }
}
