//! Power states: set by name, or left to the kernel.

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
    /// Returns the device's power state from its power management capability; `None` without the capability (always awake).
    /// Opening a device wakes it.
    pub fn power_state(&self) -> Result<Option<PowerState>> {
        let Some(capability) = self.capability(Capability::POWER)? else {
            return Ok(None);
        };
        let control = self.read_u16(capability + CONTROL)?;
        Ok(Some(PowerState::of_control(control)))
    }

    /// Puts the device into a power state.
    ///
    /// `vfio-pci` saves configuration space first and restores it on waking if the device loses it
    /// (`vfio_pci_set_power_state`). In [`PowerState::D3hot`] all mappings of its BARs lose their leaves, and accessing them
    /// raises SIGBUS, as without memory decode; [`Device::region_read`] fails. Back in [`PowerState::D0`] the leaves come
    /// back fault by fault ([`crate::populate::install`]).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for a device without this state or without power management;
    /// [`ErrorKind::InvalidInput`] for [`PowerState::D3cold`], which only the platform can enter
    /// ([`Device::allow_low_power`]).
    pub fn set_power_state(&self, state: PowerState) -> Result<()> {
        let failed = |kind, words: String| {
            let error = Error::new(kind, format!("power state {state}: {words}"));
            named(error, self.device().address())
        };
        let Some(capability) = self.capability(Capability::POWER)? else {
            let words = "the device has no power management".to_owned();
            return Err(failed(ErrorKind::Unsupported, words));
        };
        let control = self.read_u16(capability + CONTROL)?;
        let Some(control) = state.in_control(control) else {
            let words = "only the platform can remove power".to_owned();
            return Err(failed(ErrorKind::InvalidInput, words));
        };
        self.write_u16(capability + CONTROL, control)?;
        // The driver does not report a refusal.
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
    /// Allows the kernel to put the device to sleep while it is idle, and to remove its power if the platform can
    /// (`VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY`, from Linux 6.1 on). Whether and when is up to the kernel;
    /// [`crate::pci::Function::power_state`] shows the state without waking the device.
    ///
    /// Each library call that reaches the device wakes it for its duration. Mappings of its BARs lose their leaves, and
    /// accessing them raises SIGBUS, until [`Device::end_low_power`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] on a kernel without it, [`ErrorKind::Busy`] if it is already allowed.
    pub fn allow_low_power(&self) -> Result<()> {
        self.low_power(abi::FEATURE_LOW_POWER_ENTRY, &[])
    }

    /// Like [`Device::allow_low_power`], until the device wakes by an access or by itself: that signals the eventfd and ends
    /// the permission (`VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP`). The kernel takes a reference to the eventfd.
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

    /// Wakes the device and keeps it awake (`VFIO_DEVICE_FEATURE_LOW_POWER_EXIT`). No effect if low power is not allowed.
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
            let is_known = || vfio::device_feature_can_be_set(self.as_fd(), feature).is_ok();
            named(low_power_refused(errno, is_known), self.address())
        })
    }
}

/// Why the kernel refused a request about low power. `is_known` tells whether it knows the request at all.
fn low_power_refused(errno: Errno, is_known: impl FnOnce() -> bool) -> Error {
    let error = Error::call(vfio::DEVICE_FEATURE.name, errno);
    match errno {
        Errno::INVAL if is_known() => error.of_kind(ErrorKind::Busy).with_remedy(
            "low power is already allowed (Device::end_low_power), or the file is not an eventfd",
        ),
        Errno::INVAL | Errno::NOTTY | Errno::OPNOTSUPP => error
            .of_kind(ErrorKind::Unsupported)
            .with_remedy("this kernel or driver cannot put open devices to sleep"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_know_is_unsupported() {
        for (errno, is_known, kind) in [
            (Errno::INVAL, true, ErrorKind::Busy),
            (Errno::INVAL, false, ErrorKind::Unsupported),
            (Errno::NOTTY, false, ErrorKind::Unsupported),
            (Errno::OPNOTSUPP, false, ErrorKind::Unsupported),
            (Errno::IO, true, Error::call("", Errno::IO).kind()),
        ] {
            let error = low_power_refused(errno, || is_known);
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}
