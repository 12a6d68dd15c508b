//! Power: states that a driver sets by name, and leave for the kernel to put the device to sleep.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;
use zerocopy::IntoBytes;

use crate::error::{Error, ErrorKind, Result};
use crate::pci::{Capability, PowerState};
use crate::sys::abi::{self, LowPowerWakeup};
use crate::sys::vfio;

use super::device::named;
use super::{ConfigSpace, Device};

/// `PCI_PM_CTRL`, in the capability.
const CONTROL: u16 = 4;

impl<F: AsFd> ConfigSpace<'_, F> {
    /// Which power state the device is in, by its power management capability; `None` for a device without one, which is
    /// always awake. Opening a device wakes it.
    pub fn power_state(&self) -> Result<Option<PowerState>> {
        let Some(capability) = self.capability(Capability::POWER)? else {
            return Ok(None);
        };
        let control = self.read_u16(capability + CONTROL)?;
        Ok(Some(PowerState::of_control(control)))
    }

    /// Puts the device into a power state.
    ///
    /// The driver does it, and saves what a device forgets that starts anew when it wakes, to restore it then
    /// (`vfio_pci_set_power_state`). In [`PowerState::D3hot`] all mappings of its BARs lose their leaves, and an access to
    /// one of them is a SIGBUS, as without memory decode; reading by [`Device::region_read`] is an error. Back in
    /// [`PowerState::D0`] the leaves come back fault by fault ([`crate::populate::install`]).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for a device that has no such state, or no power management;
    /// [`ErrorKind::InvalidInput`] for [`PowerState::D3cold`], which is the platform's
    /// ([`Device::allow_low_power`]).
    pub fn set_power_state(&self, state: PowerState) -> Result<()> {
        let failed = |kind, words: String| {
            let error = Error::new(kind, format!("power state {state}: {words}"));
            named(error, self.device().address())
        };
        let Some(value) = state.control() else {
            let words = "it is for the platform to take the power away".to_owned();
            return Err(failed(ErrorKind::InvalidInput, words));
        };
        let Some(capability) = self.capability(Capability::POWER)? else {
            let words = "the device has no power management".to_owned();
            return Err(failed(ErrorKind::Unsupported, words));
        };
        let control = self.read_u16(capability + CONTROL)?;
        self.write_u16(capability + CONTROL, control & !3 | value)?;
        // A refusal is not told.
        let now = PowerState::of_control(self.read_u16(capability + CONTROL)?);
        match now == state {
            true => Ok(()),
            false => Err(failed(
                ErrorKind::Unsupported,
                format!("the device stays in {now}"),
            )),
        }
    }
}

impl<F: AsFd> Device<F> {
    /// Lets the kernel put the device to sleep while nobody uses it, and take its power away where the platform can
    /// (`VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY`, from Linux 6.1 on). Whether it does is up to the kernel; [`crate::pci::Function::power_state`]
    /// tells without waking it.
    ///
    /// Each call of the library's that reaches the device wakes it for as long as it takes. Mappings of its BARs lose
    /// their leaves, and an access to one of them is a SIGBUS, until [`Device::end_low_power`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] on a kernel without it, [`ErrorKind::Busy`] where it is allowed already.
    pub fn allow_low_power(&self) -> Result<()> {
        self.low_power(abi::FEATURE_LOW_POWER_ENTRY, &[])
    }

    /// As [`Device::allow_low_power`], once: when the device is woken, by an access or by itself, that ends, and the
    /// eventfd is signalled (`VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP`). The kernel takes a reference to it.
    ///
    /// # Errors
    ///
    /// As [`Device::allow_low_power`].
    pub fn allow_low_power_until_woken(&self, eventfd: BorrowedFd<'_>) -> Result<()> {
        let wakeup = LowPowerWakeup {
            wakeup_eventfd: eventfd.as_raw_fd(),
            reserved: 0,
        };
        self.low_power(abi::FEATURE_LOW_POWER_WAKEUP, wakeup.as_bytes())
    }

    /// Has the device awake for good (`VFIO_DEVICE_FEATURE_LOW_POWER_EXIT`). Without effect where it is so already.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] on a kernel without it.
    pub fn end_low_power(&self) -> Result<()> {
        self.low_power(abi::FEATURE_LOW_POWER_EXIT, &[])
    }

    fn low_power(&self, feature: u32, data: &[u8]) -> Result<()> {
        let set = vfio::device_feature_set(self.as_fd(), feature, data);
        set.map_err(|errno| {
            let error = Error::call(vfio::DEVICE_FEATURE.name, errno);
            let error = match errno {
                Errno::INVAL if vfio::device_feature_can_be_set(self.as_fd(), feature).is_ok() => {
                    error.of_kind(ErrorKind::Busy).with_remedy(
                        "low power is allowed already (Device::end_low_power), or the file is no eventfd",
                    )
                }
                Errno::INVAL | Errno::NOTTY | Errno::OPNOTSUPP => error
                    .of_kind(ErrorKind::Unsupported)
                    .with_remedy("this kernel or driver cannot put devices to sleep that are in use"),
                _ => error,
            };
            named(error, self.address())
        })
    }
}
