//! Resetting a function, or all that is on its slot or bus.

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

/// A device that a hot reset would reach ([`Device::hot_reset_info`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Affected {
    /// Its address.
    pub address: Address,
    /// Its IOMMU group, where the device that was asked was opened by its group.
    pub group: Option<u32>,
    /// Whether the iommufd of the device that was asked has it, or keeps others from having it, where that one was
    /// opened by its own node.
    pub owned: Option<bool>,
    /// Whether it is open on that iommufd.
    open: bool,
}

impl<F: AsFd> Device<F> {
    /// Resets the function, by the first way that works of those that the kernel knows for it (`VFIO_DEVICE_RESET`;
    /// `/sys/bus/pci/devices/ADDRESS/reset_method` lists them, from Linux 5.15 on).
    ///
    /// The kernel saves configuration space before and restores it afterwards (`pci_dev_save_and_disable`), so memory
    /// decode, bus mastering and the interrupts that are enabled stay as they are. What else the device forgets is up to
    /// the way: everything by a reset of the function (`flr`) or of the bus, less where it is only put to sleep and woken
    /// (`pm`). Mappings of its BARs stay where they are, but lose their leaves, which come back fault by fault
    /// ([`crate::populate::install`]). A device in a low power state is woken.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] where the function cannot be reset by itself ([`Device::can_reset`]),
    /// [`ErrorKind::Busy`] while somebody else resets or unbinds it.
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
                    .with_remedy("somebody else resets or unbinds it: try again"),
                _ => error,
            })
        })
    }

    /// Which devices a hot reset would reach, this one among them (`VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`): those in its
    /// slot where that can be reset by itself, otherwise those on its bus, and those behind them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] where neither slot nor bus can be reset, as on a root bus; [`ErrorKind::NoIommu`] where
    /// one of the devices has no IOMMU group.
    pub fn hot_reset_info(&self) -> Result<Vec<Affected>> {
        let name = vfio::DEVICE_GET_PCI_HOT_RESET_INFO.name;
        let answer = vfio::device_get_pci_hot_reset_info(self.as_fd());
        let (flags, devices) =
            answer.map_err(|errno| named(hot_reset_failed(name, errno), self.address()))?;
        let by_device = flags & abi::HOT_RESET_DEV_ID != 0;
        // The kernel's number of the domain is short of bits behind a VMD controller, but all are in one domain.
        let domain = self.address().map(|own| own.domain);
        let read = |own: &DependentDevice| affected(own, by_device, domain);
        Ok(devices.iter().map(read).collect())
    }

    /// Resets all devices on the slot or bus (`VFIO_DEVICE_PCI_HOT_RESET`). `others` are those of the caller's that are
    /// reset as well: each group that is reached has to have one of them, or, for devices that were opened by their own
    /// nodes, each device that is open. What else is reached has to be bound to a VFIO driver, and not be open.
    ///
    /// For each of them it does what [`Device::reset`] does for one.
    ///
    /// # Errors
    ///
    /// As [`Device::hot_reset_info`]; [`ErrorKind::Busy`] with the devices that are in the way, and while somebody
    /// accesses one of them; [`ErrorKind::InvalidInput`] where somebody else has opened one
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
                    let operation = "hot reset: who has opened the device is not known";
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

    /// Resets all devices on the slot or bus, as [`Device::hot_reset`] does, with descriptors of all their groups; with
    /// none for a device that was opened by its own node. For devices that somebody else has opened.
    ///
    /// # Errors
    ///
    /// As [`Device::hot_reset`].
    pub fn hot_reset_by_groups(&self, groups: &[BorrowedFd<'_>]) -> Result<()> {
        let name = vfio::DEVICE_PCI_HOT_RESET.name;
        vfio::device_pci_hot_reset(self.as_fd(), groups).map_err(|errno| {
            let error = match errno {
                // The kernel does not say which of them it means.
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

/// What the kernel says of a device.
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

/// Devices that would be reset without anybody having said so, or that no VFIO driver has, which the kernel does not
/// allow.
fn in_the_way(devices: &[Affected]) -> Error {
    let mut remedy =
        "open them by the same backend (and iommufd) and name them, or bind them to vfio-pci";
    let describe = |own: &Affected| match (foreign(own), own.group) {
        (Some(driver), _) => {
            remedy = "bind to vfio-pci all that is reset";
            format!("{}, which is bound to {driver}", own.address)
        }
        (None, Some(group)) => format!("{} of IOMMU group {group}", own.address),
        (None, None) => own.address.to_string(),
    };
    let names: Vec<_> = devices.iter().map(describe).collect();
    let operation = format!("a hot reset reaches {}", names.join(" and "));
    Error::new(ErrorKind::Busy, operation).with_remedy(remedy)
}

/// The driver of a device, where that is not VFIO's; `no driver` is one too.
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
            .with_remedy("one of the devices is in use at this moment: try again"),
        Errno::INVAL => error.with_remedy(
            "are these all groups that are reached, and none for a device opened by its own node?",
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
