//! Resetting a function, or everything on its slot or bus.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::iommu::Group;
use crate::pci::{Address, Function};
use crate::sys::abi::{self, DependentDevice};
use crate::sys::vfio;

use super::Device;
use super::device::named;
use super::group::is_vfio;
use super::handle::Attachment;

/// A device that a hot reset affects ([`Device::hot_reset_info`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Affected {
    /// The PCI address.
    pub address: Address,
    /// Its IOMMU group, if the queried device was opened through its group.
    pub group: Option<u32>,
    /// Whether the queried device's iommufd owns it: it is open there, or shares a group with one that is. Known only if
    /// the queried device was opened by its own node.
    pub owned: Option<bool>,
    /// Whether it is open on that iommufd.
    open: bool,
}

impl<F: AsFd> Device<F> {
    /// Resets the function (`VFIO_DEVICE_RESET`), by the first method that works. From Linux 5.15 on,
    /// `/sys/bus/pci/devices/ADDRESS/reset_method` lists them.
    ///
    /// The kernel saves and restores configuration space (`pci_dev_save_and_disable`), so memory decode, bus mastering and
    /// enabled interrupts stay as they are. What else the device loses depends on the method: everything in a function
    /// (`flr`) or bus reset, less in a transition to D3hot and back (`pm`). Mappings of its BARs keep their addresses but
    /// lose their leaves, which come back fault by fault ([`crate::populate::install`]). A device in a low-power state is
    /// woken.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the function cannot be reset by itself ([`Device::can_reset`]), [`ErrorKind::Busy`]
    /// while somebody else resets or unbinds it.
    pub fn reset(&self) -> Result<()> {
        let failed = |error: Error| named(error, self.address());
        if !self.can_reset() {
            let operation = "the device cannot be reset by itself";
            let remedy =
                "behind a bridge all devices on the bus can be reset together (Device::hot_reset)";
            let error = Error::new(ErrorKind::Unsupported, operation);
            return Err(failed(error.with_remedy(remedy)));
        }
        vfio::device_reset(self.as_fd()).map_err(|errno| {
            let error = Error::call(vfio::DEVICE_RESET.name, errno);
            failed(match errno {
                Errno::AGAIN => error
                    .of_kind(ErrorKind::Busy)
                    .with_remedy("somebody else is resetting or unbinding it: try again"),
                _ => error,
            })
        })
    }

    /// Lists the devices that a hot reset affects, this one included (`VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`): those in its slot
    /// if the slot can be reset by itself, otherwise those on its bus, and all behind them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if neither slot nor bus can be reset, as on a root bus; [`ErrorKind::NoIommu`] if one of
    /// the devices has no IOMMU group.
    pub fn hot_reset_info(&self) -> Result<Vec<Affected>> {
        let name = vfio::DEVICE_GET_PCI_HOT_RESET_INFO.name;
        let answer = vfio::device_get_pci_hot_reset_info(self.as_fd());
        let (flags, devices) =
            answer.map_err(|errno| named(hot_reset_failed(name, errno), self.address()))?;
        let by_device = flags & abi::HOT_RESET_DEV_ID != 0;
        // The kernel's answer cuts the domain number, which is longer behind a VMD controller. All are in one domain.
        let domain = self.address().map(|own| own.domain);
        let read = |own: &DependentDevice| affected(own, by_device, domain);
        Ok(devices.iter().map(read).collect())
    }

    /// Resets all devices on the slot or bus (`VFIO_DEVICE_PCI_HOT_RESET`). `others` are the caller's devices that are reset
    /// as well: one of each affected group or, for devices opened by their own nodes, each that is open. All other
    /// affected devices must be bound to a VFIO driver and not be open.
    ///
    /// The effect on each device is that of [`Device::reset`].
    ///
    /// # Errors
    ///
    /// As [`Device::hot_reset_info`]; [`ErrorKind::Busy`] naming the devices that prevent it, or while somebody accesses
    /// one of them; [`ErrorKind::InvalidInput`] if the caller did not open this device through this library
    /// ([`Device::hot_reset_by_groups`]).
    pub fn hot_reset(&self, others: &[&Self]) -> Result<()> {
        let all = || others.iter().copied().chain([self]);
        let mut groups: Vec<&Arc<Group>> = Vec::new();
        for device in all() {
            match &device.attachment {
                Attachment::Group(group) => {
                    if !groups.iter().any(|known| known.number() == group.number()) {
                        groups.push(group);
                    }
                }
                Attachment::Iommufd(_) => (),
                Attachment::Elsewhere(_) => {
                    let operation = "hot reset: the device was opened outside this library";
                    let error = Error::new(ErrorKind::InvalidInput, operation);
                    let error = error.with_remedy("use Device::hot_reset_by_groups");
                    return Err(named(error, device.address()));
                }
            }
        }
        let is_covered = |own: &Affected| match (own.group, own.owned) {
            (Some(number), _) => groups.iter().any(|group| group.number() == number),
            (None, Some(true)) if !own.open => true,
            (None, Some(true)) => all().any(|device| device.address() == Some(own.address)),
            _ => false,
        };
        let reached = self.hot_reset_info()?;
        let others = |own: &&Affected| !is_covered(own);
        let others: Vec<_> = reached.iter().filter(others).copied().collect();
        if !others.is_empty() {
            return Err(named(in_the_way(&others), self.address()));
        }
        // The kernel takes no more groups than there are devices.
        groups.retain(|group| reached.iter().any(|own| own.group == Some(group.number())));
        let fds: Vec<_> = groups.iter().filter_map(|group| group.fd()).collect();
        self.hot_reset_by_groups(&fds)
    }

    /// Resets all devices on the slot or bus, like [`Device::hot_reset`], for devices opened outside this library
    /// (`VFIO_DEVICE_PCI_HOT_RESET`). Pass descriptors of all affected groups, or none for a device opened by its own node.
    ///
    /// # Errors
    ///
    /// As [`Device::hot_reset`].
    pub fn hot_reset_by_groups(&self, groups: &[BorrowedFd<'_>]) -> Result<()> {
        let name = vfio::DEVICE_PCI_HOT_RESET.name;
        vfio::device_pci_hot_reset(self.as_fd(), groups).map_err(|errno| {
            let error = match errno {
                // The kernel does not say which descriptor it means.
                Errno::INVAL => self.hot_reset_info().ok().and_then(|mut all| {
                    all.retain(|own| foreign(own).is_some());
                    (!all.is_empty()).then(|| in_the_way(&all))
                }),
                _ => None,
            };
            let error = error.unwrap_or_else(|| hot_reset_failed(name, errno));
            named(error, self.address())
        })
    }
}

/// The kernel's answer about a device.
fn affected(own: &DependentDevice, by_device: bool, domain: Option<u32>) -> Affected {
    let address = Address {
        domain: domain.unwrap_or_else(|| own.segment.into()),
        bus: own.bus,
        device: own.devfn >> 3,
        function: own.devfn & 7,
    };
    let (group, owned) = match by_device {
        true => (None, Some(own.id != abi::DEVID_NOT_OWNED)),
        false => (Some(own.id), None),
    };
    Affected {
        address,
        group,
        owned,
        open: by_device && ![abi::DEVID_OWNED, abi::DEVID_NOT_OWNED].contains(&own.id),
    }
}

/// Affected devices that were not named, or are not bound to a VFIO driver: the kernel refuses to reset them.
fn in_the_way(devices: &[Affected]) -> Error {
    let mut remedy = "open them by the same backend (and the same iommufd) and pass them too, or bind them to vfio-pci";
    let describe = |own: &Affected| match (foreign(own), own.group) {
        (Some(driver), _) => {
            remedy = "bind all of them to vfio-pci";
            format!("{}, which is bound to {driver}", own.address)
        }
        (None, Some(group)) => format!("{} of IOMMU group {group}", own.address),
        (None, None) => own.address.to_string(),
    };
    let names: Vec<_> = devices.iter().map(describe).collect();
    let operation = format!("a hot reset reaches {}", names.join(" and "));
    Error::new(ErrorKind::Busy, operation).with_remedy(remedy)
}

/// The driver of a device, if it is not a VFIO driver; `no driver` counts as one.
fn foreign(own: &Affected) -> Option<String> {
    match Function::at(own.address).ok()?.driver().ok()? {
        Some(driver) if is_vfio(&driver) => None,
        Some(driver) => Some(driver),
        None => Some("no driver".to_owned()),
    }
}

fn hot_reset_failed(name: &'static str, errno: Errno) -> Error {
    let error = Error::call(name, errno);
    match errno {
        Errno::NODEV => error
            .of_kind(ErrorKind::Unsupported)
            .with_remedy("neither its slot nor its bus can be reset, as on a root bus"),
        Errno::PERM => error.of_kind(ErrorKind::NoIommu).with_remedy(
            "a device in its slot or on its bus has no IOMMU group; without an IOMMU, binding it to vfio-pci gives it one",
        ),
        Errno::BUSY | Errno::AGAIN => error
            .of_kind(ErrorKind::Busy)
            .with_remedy("one of the devices is being accessed: try again"),
        Errno::INVAL => error.with_remedy(
            "pass all affected groups, and none for a device opened by its own node",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: u32) -> DependentDevice {
        DependentDevice {
            id,
            segment: 1,
            bus: 0x82,
            devfn: 0x1f << 3 | 5,
        }
    }

    #[test]
    fn devices_are_told_by_group_or_by_themselves() {
        let by_group = affected(&device(7), false, None);
        assert_eq!(by_group.address.to_string(), "0001:82:1f.5");
        assert_eq!((by_group.group, by_group.owned), (Some(7), None));
        for (id, owned, open) in [(3, true, true), (0, true, false), (u32::MAX, false, false)] {
            let own = affected(&device(id), true, Some(0x1_0001));
            assert_eq!(own.address.to_string(), "10001:82:1f.5");
            assert_eq!((own.group, own.owned, own.open), (None, Some(owned), open));
        }
    }
}
