//! IOMMU groups: the smallest sets of devices that an IOMMU can isolate.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::facts::Features;
use crate::iommu::{Container, Group, IommuKind};
use crate::pci::{Address, Function};
use crate::sys::{abi, file, process, vfio};

use super::firmware;
use super::remedy::free_group;

/// Drivers besides VFIO's that leave a group viable: they set `driver_managed_dma`
/// (Linux 5.18). Before, `pci-stub` did, and any driver of a bridge (`vfio_dev_driver_allowed`).
const HARMLESS: [&str; 2] = ["pci-stub", "pcieport"];

/// Whether a driver is one of VFIO's: `vfio-pci`, or a variant such as `mlx5_vfio_pci`.
pub fn is_vfio(driver: &str) -> bool {
    driver.contains("vfio")
}

/// Opens `/dev/vfio/NUMBER` (`/dev/vfio/noiommu-NUMBER` without an IOMMU) and attaches it to a container
/// (`VFIO_GROUP_SET_CONTAINER`), unless it already is; the container's first group sets its IOMMU type.
pub(super) fn attached(
    number: u32,
    address: Address,
    container: &Arc<Container>,
) -> Result<Arc<Group>> {
    container.group(number, |first| attach(number, address, container, first))
}

fn attach(number: u32, address: Address, container: &Container, first: bool) -> Result<OwnedFd> {
    let (prefix, iommu) = match container.kind() {
        IommuKind::Type1 | IommuKind::Iommufd => ("", abi::TYPE1V2_IOMMU),
        IommuKind::None => ("noiommu-", abi::NOIOMMU_IOMMU),
    };
    let node = PathBuf::from(format!("/dev/vfio/{prefix}{number}"));
    let fd = file::open_read_write(&node).map_err(|errno| open_failed(errno, number, &node))?;
    let subject = || node.display().to_string();
    let failed = |name| move |errno| Error::call(name, errno);
    let by_firmware = |name, errno| firmware::demanded(name, errno, Some(number));

    let status = vfio::group_get_status(fd.as_fd())
        .map_err(failed(vfio::GROUP_GET_STATUS.name))
        .map_err(|error| error.on(subject()))?;
    if status.flags & abi::GROUP_VIABLE == 0 {
        return Err(not_viable(number, Some(address)));
    }
    vfio::group_set_container(fd.as_fd(), container.as_fd())
        .map_err(|errno| {
            let name = vfio::GROUP_SET_CONTAINER.name;
            let error = by_firmware(name, errno);
            error.unwrap_or_else(|| in_use(Error::call(name, errno), Some(number)))
        })
        .map_err(|error| error.on(subject()))?;
    let undecided = match container.kind() {
        // A container reports its IOMMU once it has one, and then the IOMMU cannot be changed.
        IommuKind::Type1 | IommuKind::Iommufd => vfio::iommu_get_info(container.as_fd()).is_err(),
        // Without an IOMMU it reports nothing.
        IommuKind::None => first,
    };
    if undecided {
        vfio::set_iommu(container.as_fd(), iommu).map_err(|errno| {
            let error = by_firmware(vfio::SET_IOMMU.name, errno);
            error
                .unwrap_or_else(|| set_iommu_failed(errno))
                .on(subject())
        })?;
    }
    Ok(fd)
}

/// Opens a device of the group (`VFIO_GROUP_GET_DEVICE_FD`).
pub(super) fn device(group: &Group, address: Address) -> Result<OwnedFd> {
    let failed = |errno| Error::call(vfio::GROUP_GET_DEVICE_FD.name, errno);
    let name = CString::new(address.to_string()).map_err(|_| failed(Errno::INVAL))?;
    let fd = group.fd().ok_or(failed(Errno::BADF))?;
    vfio::group_get_device_fd(fd, &name).map_err(|errno| {
        let name = vfio::GROUP_GET_DEVICE_FD.name;
        if let Some(error) = firmware::demanded(name, errno, Some(group.number())) {
            return error;
        }
        match errno {
            Errno::NODEV => failed(errno)
                .of_kind(ErrorKind::NotBound)
                .with_remedy("the device's driver is not VFIO's: bind the device to vfio-pci"),
            Errno::BUSY => failed(errno).with_remedy("another process has the device open"),
            // type1 checks this for the group, iommufd for each device.
            Errno::PERM if group.container().kind() == IommuKind::Iommufd => {
                no_interrupt_remapping(failed(errno), "iommufd")
            }
            _ => failed(errno),
        }
    })
}

fn open_failed(errno: Errno, number: u32, node: &std::path::Path) -> Error {
    let error = Error::call("open", errno).on(node.display());
    match errno {
        Errno::NOENT if PathBuf::from(format!("/dev/vfio/noiommu-{number}")).exists() => {
            error.of_kind(ErrorKind::NoIommu).with_remedy(
                "there is no IOMMU; if the device may reach all memory, request no-IOMMU mode \
                 explicitly",
            )
        }
        Errno::NOENT => error.with_remedy(
            "the node does not exist: pass it into this container or jail, or use a kernel with \
             VFIO groups (CONFIG_VFIO_GROUP)",
        ),
        Errno::BUSY => error.with_remedy(format!(
            "another process, or this one, has a device of IOMMU group {number} open or mapped"
        )),
        Errno::ACCESS => {
            error.with_remedy("give this user read and write permission for the group")
        }
        Errno::PERM => error.with_remedy(
            "the device cgroup of this process denies it, or it requires CAP_SYS_RAWIO",
        ),
        _ => error,
    }
}

/// The error for a group that is not viable, with the devices that other drivers have. `address` is the requested device,
/// if known.
pub(super) fn not_viable(number: u32, address: Option<Address>) -> Error {
    let held = held_by_others(number);
    let operation = format!("IOMMU group {number} is not viable");
    let remedy = match held.as_slice() {
        [] => "bind every device of the group to vfio-pci".to_owned(),
        held => format!("{}: {}", held.join(", "), free_group(address, held)),
    };
    Error::new(ErrorKind::GroupNotViable, operation).with_remedy(remedy)
}

/// Lists the devices of an IOMMU group that are bound to drivers other than VFIO's, each with its driver: they make the
/// group not viable. Reads sysfs, and opens no device.
pub fn held_by_others(number: u32) -> Vec<String> {
    let features = Features::of(&process::kernel_release());
    let spares_bridges = features.counts_bridges() == Some(false);
    let mut held = Vec::new();
    for function in Function::in_group(number).unwrap_or_default() {
        let spared = spares_bridges && function.is_bridge();
        if let Ok(Some(driver)) = function.driver() {
            if !spared && !is_vfio(&driver) && !HARMLESS.contains(&driver.as_str()) {
                held.push(format!("{} is bound to {driver}", function.address()));
            }
        }
    }
    held
}

fn set_iommu_failed(errno: Errno) -> Error {
    let error = Error::call(vfio::SET_IOMMU.name, errno);
    match errno {
        Errno::PERM => error.of_kind(ErrorKind::NoInterruptRemapping).with_remedy(
            "the IOMMU has no interrupt remapping: turn it on in the firmware, or accept the \
                 risk with vfio_iommu_type1.allow_unsafe_interrupts=1",
        ),
        Errno::NODEV => error.with_remedy("the IOMMU cannot serve this group with type1"),
        _ => error,
    }
}

/// Adds what to do if the kernel says that an IOMMU group has another user (`iommu_group_claim_dma_owner`,
/// `iommu_attach_group`).
pub(super) fn in_use(error: Error, group: Option<u32>) -> Error {
    if error.kind() != ErrorKind::Busy {
        return error;
    }
    let group = group.map_or_else(String::new, |number| format!(" {number}"));
    error.with_remedy(format!(
        "a driver or another process uses a device of IOMMU group{group}: bind all its devices to vfio-pci, or end that \
         process"
    ))
}

/// The error of a module that has a parameter to accept the risk.
pub(super) fn no_interrupt_remapping(error: Error, module: &str) -> Error {
    error
        .of_kind(ErrorKind::NoInterruptRemapping)
        .with_remedy(format!(
            "the IOMMU has no interrupt remapping: turn it on in the firmware, or accept the risk \
             with {module}.allow_unsafe_interrupts=1"
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_in_use_is_named() {
        let name = vfio::GROUP_SET_CONTAINER.name;
        let said = in_use(Error::call(name, Errno::BUSY), Some(26)).to_string();
        assert!(said.contains("a device of IOMMU group 26: bind"), "{said}");
        let said = in_use(Error::call(name, Errno::BUSY), None).to_string();
        assert!(said.contains("a device of IOMMU group: bind"), "{said}");
        let other = in_use(Error::call(name, Errno::INVAL), Some(26));
        assert!(other.remedy().is_none(), "{other}");
    }
}
