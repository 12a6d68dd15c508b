//! Querying and enabling a device's interrupts.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::{eventfd, vfio};

use super::Device;
use super::device::named;
use super::interrupts::{Interrupts, Vector, no_eventfd};
use super::irq::{IrqFlags, IrqInfo, IrqKind};

impl<F: AsFd> Device<F> {
    /// Returns how many interrupts of a kind the device has, and what they support (`VFIO_DEVICE_GET_IRQ_INFO`).
    ///
    /// Virtual functions have no INTx, nor do devices whose INTx the kernel knows to be broken.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for a device that is not PCI.
    pub fn irq_info(&self, kind: IrqKind) -> Result<IrqInfo> {
        let failed = |error: Error| named(error, self.address());
        if !self.is_pci() {
            let operation = format!("{kind}: not a PCI device");
            return Err(failed(Error::new(ErrorKind::Unsupported, operation)));
        }
        let (count, flags) = match vfio::device_get_irq_info(self.as_fd(), kind.index()) {
            Ok(info) => (info.count, info.flags),
            // Some kernels report a missing kind like this.
            Err(Errno::INVAL) if kind == IrqKind::Error => (0, 0),
            Err(errno) => {
                let operation = format!("{}: {kind}", vfio::DEVICE_GET_IRQ_INFO.name);
                return Err(failed(Error::call(operation, errno)));
            }
        };
        let flags = IrqFlags::from_bits_retain(flags);
        Ok(IrqInfo { count, flags })
    }

    /// Enables the first `count` interrupts of a kind, each with an eventfd of its own (`VFIO_DEVICE_SET_IRQS`).
    ///
    /// Devices send MSI and MSI-X as bus masters: see [`Device::set_bus_master`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the device has fewer, [`ErrorKind::Busy`] if this or another kind is already enabled,
    /// [`ErrorKind::OutOfMemory`] if the machine has no vectors left or this process may open no more files.
    pub fn enable_irqs(&self, kind: IrqKind, count: u32) -> Result<Interrupts<F>> {
        let info = self.having(kind, count as usize)?;
        let own = (0..count).map(|_| eventfd::create());
        let own = own.collect::<rustix::io::Result<Vec<_>>>();
        let own = own.map_err(|errno| named(no_eventfd(errno), self.address()))?;
        let fds: Vec<_> = own.iter().map(|fd| Some(fd.as_fd())).collect();
        let enabled = Interrupts::enable(&self.handle, self.address, (kind, info), &fds)?;
        Ok(enabled.with_vectors(own.into_iter().map(Vector::Own)))
    }

    /// Enables interrupts of a kind with the caller's eventfds, one for each vector, such as those that KVM injects guest
    /// interrupts from (`VFIO_DEVICE_SET_IRQS`). `None` leaves a vector out. The kernel takes references: the caller may
    /// close its descriptors.
    ///
    /// # Errors
    ///
    /// As [`Device::enable_irqs`]; [`ErrorKind::InvalidInput`] for `None` with a kind that has no vectors.
    pub fn enable_irqs_with(
        &self,
        kind: IrqKind,
        eventfds: &[Option<BorrowedFd<'_>>],
    ) -> Result<Interrupts<F>> {
        let info = self.having(kind, eventfds.len())?;
        let has_vectors = matches!(kind, IrqKind::Msi | IrqKind::Msix);
        if !has_vectors && eventfds.iter().any(Option::is_none) {
            let error = Error::new(
                ErrorKind::InvalidInput,
                format!("{kind} without an eventfd"),
            );
            return Err(named(error, self.address()));
        }
        let enabled = Interrupts::enable(&self.handle, self.address, (kind, info), eventfds)?;
        Ok(enabled.with_vectors(eventfds.iter().map(|fd| match fd {
            Some(_) => Vector::Lent,
            None => Vector::Absent,
        })))
    }

    /// The interrupts of a kind, if there are at least `count`.
    fn having(&self, kind: IrqKind, count: usize) -> Result<IrqInfo> {
        let info = self.irq_info(kind)?;
        let (error, operation) = match info.count {
            _ if count == 0 => (ErrorKind::InvalidInput, format!("{kind}: no vector")),
            0 => (ErrorKind::Unsupported, format!("the device has no {kind}")),
            all if count > all as usize => {
                let operation = format!("{kind}: the device has {all}, not {count}");
                (ErrorKind::Unsupported, operation)
            }
            _ => return Ok(info),
        };
        Err(named(Error::new(error, operation), self.address()))
    }
}
