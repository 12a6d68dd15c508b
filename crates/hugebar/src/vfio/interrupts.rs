//! Enabled interrupts: a guard that holds their eventfds and disables them when dropped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::Timespec;

use crate::error::{Error, ErrorKind, Result};
use crate::pci::Address;
use crate::sys::fork::{Process, this_process};
use crate::sys::vfio::{self, IrqData};
use crate::sys::{abi, eventfd};

use super::device::named;
use super::handle::{Enabled, Handle};
use super::irq::{IrqFlags, IrqInfo, IrqKind};

/// Enabled interrupts of one kind ([`Device::enable_irqs`](super::Device::enable_irqs)), each with an eventfd that counts
/// how often it fired.
///
/// Wait for them here, or poll their eventfds together with others ([`Interrupts::fd`]). Dropping this disables them. It
/// shares the device's descriptor, so it keeps the device open.
///
/// ```no_run
/// use hugebar::vfio::{Device, IrqKind};
/// let device = Device::open("0000:01:00.0".parse()?)?;
/// device.set_bus_master(true)?;
/// let interrupts = device.enable_irqs(IrqKind::Msix, 4)?;
/// loop {
///     let times = interrupts.wait(0, None)?;
///     println!("vector 0 fired {times} times");
/// }
/// # Ok::<(), hugebar::Error>(())
/// ```
#[derive(Debug)]
pub struct Interrupts<F: AsFd = OwnedFd> {
    handle: Arc<Handle<F>>,
    address: Option<Address>,
    kind: IrqKind,
    info: IrqInfo,
    vectors: Vec<Vector>,
    /// The process that enabled them.
    process: Process,
    /// Whether they were disabled already.
    ended: bool,
}

/// Where an interrupt goes.
#[derive(Debug)]
pub(super) enum Vector {
    /// Nowhere.
    Absent,
    /// To an eventfd of ours.
    Own(OwnedFd),
    /// To one of the caller's, to which the kernel holds a reference.
    Lent,
}

impl<F: AsFd> Interrupts<F> {
    /// Enables interrupts from the first on (`VFIO_DEVICE_SET_IRQS`), unless others exclude them.
    pub(super) fn enable(
        handle: &Arc<Handle<F>>,
        address: Option<Address>,
        (kind, info): (IrqKind, IrqInfo),
        fds: &[Option<BorrowedFd<'_>>],
    ) -> Result<Self> {
        let mut irqs = handle.irqs();
        for other in IrqKind::ALL {
            let in_the_way = other == kind || (other.is_exclusive() && kind.is_exclusive());
            let state = &mut irqs[other.index() as usize];
            match *state {
                Enabled::Yes if in_the_way => {
                    let operation = format!("{kind} cannot be enabled while {other} is");
                    let error = Error::new(ErrorKind::Busy, operation);
                    return Err(named(
                        error.with_remedy("drop those Interrupts first"),
                        address,
                    ));
                }
                Enabled::Left if in_the_way => {
                    disable(handle, other).map_err(|error| named(error, address))?;
                    *state = Enabled::No;
                }
                _ => (),
            }
        }
        let eventfds = IrqData::Eventfds(fds);
        let done = vfio::device_set_irqs(
            handle.fd.as_fd(),
            abi::IRQ_TRIGGER,
            kind.index(),
            0,
            eventfds,
        );
        match done {
            Ok(0) => irqs[kind.index() as usize] = Enabled::Yes,
            Ok(fewer) => {
                let operation = format!("{kind}: only {fewer} of {} vectors can be had", fds.len());
                return Err(named(
                    Error::new(ErrorKind::OutOfMemory, operation),
                    address,
                ));
            }
            Err(errno) => return Err(named(refused(kind, errno), address)),
        }
        drop(irqs);
        Ok(Self {
            handle: handle.clone(),
            address,
            kind,
            info,
            vectors: Vec::new(),
            process: this_process(),
            ended: false,
        })
    }

    pub(super) fn with_vectors(mut self, vectors: impl IntoIterator<Item = Vector>) -> Self {
        self.vectors = vectors.into_iter().collect();
        self
    }

    /// The kind of these interrupts.
    pub fn kind(&self) -> IrqKind {
        self.kind
    }

    /// The eventfd of a vector, for polling. It is close-on-exec and nonblocking; reading its eight bytes returns how often
    /// the interrupt fired since the last read. `None` for a vector that is not enabled or uses the caller's eventfd.
    pub fn fd(&self, vector: u32) -> Option<BorrowedFd<'_>> {
        match self.vectors.get(vector as usize)? {
            Vector::Own(fd) => Some(fd.as_fd()),
            Vector::Absent | Vector::Lent => None,
        }
    }

    fn own(&self, vector: u32) -> Result<BorrowedFd<'_>> {
        self.fd(vector).ok_or_else(|| {
            let operation = format!("{} vector {vector} has no eventfd of ours", self.kind);
            self.error(Error::new(ErrorKind::InvalidInput, operation))
        })
    }

    /// Waits until a vector fires (`ppoll`, `read`). Returns how often it fired since the last call, or 0 after `timeout`.
    /// Without a time-out it waits forever, and signals do not end it: poll [`Interrupts::fd`] to notice signals.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for a vector without an eventfd of this guard.
    pub fn wait(&self, vector: u32, time: Option<Duration>) -> Result<u64> {
        let fd = self.own(vector)?;
        // A time that no clock can express is forever.
        let end = time.and_then(|time| Instant::now().checked_add(time));
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match eventfd::wait(fd, left.as_ref()) {
                Ok(()) | Err(Errno::INTR) => (),
                Err(errno) => return Err(self.error(Error::call("ppoll", errno))),
            }
            // Another thread may have been faster.
            let times = self.take(vector)?;
            if times > 0 || end.is_some_and(|end| end <= Instant::now()) {
                return Ok(times);
            }
        }
    }

    /// Returns how often a vector fired since the last call, without waiting (`read`).
    ///
    /// # Errors
    ///
    /// As [`Interrupts::wait`].
    pub fn take(&self, vector: u32) -> Result<u64> {
        let times = eventfd::take(self.own(vector)?);
        times.map_err(|errno| self.error(Error::call("read", errno)))
    }

    /// Masks INTx (`VFIO_DEVICE_SET_IRQS`). Other kinds cannot be masked: detach a vector's eventfd with [`Interrupts::set`],
    /// or silence the interrupt in the device.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for any other kind.
    pub fn mask(&self) -> Result<()> {
        self.maskable()?;
        self.apply(abi::IRQ_MASK, 0, IrqData::All(1))
    }

    /// Unmasks INTx (`VFIO_DEVICE_SET_IRQS`), which the kernel masks each time it fires. Call this after serving the device:
    /// if its line is still asserted, the interrupt fires again at once.
    ///
    /// # Errors
    ///
    /// As [`Interrupts::mask`].
    pub fn unmask(&self) -> Result<()> {
        self.maskable()?;
        self.apply(abi::IRQ_UNMASK, 0, IrqData::All(1))
    }

    /// Lets the kernel unmask INTx whenever the caller's eventfd is signalled, such as by KVM when a guest has ended its
    /// interrupt (`VFIO_DEVICE_SET_IRQS`). `None` ends this.
    ///
    /// # Errors
    ///
    /// As [`Interrupts::mask`]; [`ErrorKind::Busy`] while another eventfd does so.
    pub fn unmask_by(&self, eventfd: Option<BorrowedFd<'_>>) -> Result<()> {
        self.maskable()?;
        self.apply(abi::IRQ_UNMASK, 0, IrqData::Eventfds(&[eventfd]))
    }

    fn maskable(&self) -> Result<()> {
        if self.info.flags.contains(IrqFlags::MASKABLE) {
            return Ok(());
        }
        let operation = format!("{} cannot be masked by the kernel", self.kind);
        Err(self.error(Error::new(ErrorKind::Unsupported, operation)))
    }

    /// Signals a vector's eventfd as if the device had fired, as a loopback test (`VFIO_DEVICE_SET_IRQS`). Nothing is masked.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for a vector that is not enabled.
    pub fn trigger(&self, vector: u32) -> Result<()> {
        match self.vectors.get(vector as usize) {
            None | Some(Vector::Absent) => {
                let operation = format!("{} vector {vector} is not enabled", self.kind);
                Err(self.error(Error::new(ErrorKind::InvalidInput, operation)))
            }
            Some(_) => self.apply(abi::IRQ_TRIGGER, vector, IrqData::All(1)),
        }
    }

    /// Signals the vectors whose value is true, counted from the first, like [`Interrupts::trigger`]. Vectors that are not
    /// enabled are skipped.
    pub fn trigger_those(&self, vectors: &[bool]) -> Result<()> {
        let (enabled, rest) = vectors.split_at(vectors.len().min(self.vectors.len()));
        if rest.contains(&true) {
            let operation = format!("{}: only {} vectors are enabled", self.kind, enabled.len());
            return Err(self.error(Error::new(ErrorKind::InvalidInput, operation)));
        }
        match enabled {
            [] => Ok(()),
            enabled => self.apply(abi::IRQ_TRIGGER, 0, IrqData::Bools(enabled)),
        }
    }

    /// Enables one more vector, or one that was left out, with an eventfd of its own (`VFIO_DEVICE_SET_IRQS`). The others
    /// stay enabled.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for a vector that the device does not have, or one beyond those enabled first if none can
    /// be added later ([`IrqFlags::NORESIZE`]); [`ErrorKind::OutOfMemory`] as for enabling.
    pub fn add(&mut self, vector: u32) -> Result<()> {
        let fd = eventfd::create();
        let fd = fd.map_err(|errno| self.error(no_eventfd(errno)))?;
        self.place(vector, Some(fd.as_fd()))?;
        self.vectors[vector as usize] = Vector::Own(fd);
        Ok(())
    }

    /// Makes a vector signal the caller's eventfd, or none (`VFIO_DEVICE_SET_IRQS`). This can add vectors, like
    /// [`Interrupts::add`].
    ///
    /// # Errors
    ///
    /// As [`Interrupts::add`]. After an error the vector may signal no eventfd.
    pub fn set(&mut self, vector: u32, eventfd: Option<BorrowedFd<'_>>) -> Result<()> {
        self.place(vector, eventfd)?;
        self.vectors[vector as usize] = match eventfd {
            Some(_) => Vector::Lent,
            None => Vector::Absent,
        };
        Ok(())
    }

    /// Passes a vector's eventfd to the kernel, and makes room for it here.
    fn place(&mut self, vector: u32, eventfd: Option<BorrowedFd<'_>>) -> Result<()> {
        let (all, enabled) = (self.info.count, self.vectors.len());
        let (operation, remedy) = if vector >= all {
            (
                format!(
                    "{}: the device has {all} of them, no vector {vector}",
                    self.kind
                ),
                None,
            )
        } else if vector as usize >= enabled && self.info.flags.contains(IrqFlags::NORESIZE) {
            let operation = format!(
                "{}: vector {vector} cannot be added to {enabled}",
                self.kind
            );
            (
                operation,
                Some(
                    "enable as many as you will need; MSI-X vectors can be added from Linux 6.5 on",
                ),
            )
        } else {
            self.apply(abi::IRQ_TRIGGER, vector, IrqData::Eventfds(&[eventfd]))?;
            let len = enabled.max(vector as usize + 1);
            self.vectors.resize_with(len, || Vector::Absent);
            return Ok(());
        };
        let error = Error::new(ErrorKind::Unsupported, operation);
        Err(self.error(match remedy {
            Some(remedy) => error.with_remedy(remedy),
            None => error,
        }))
    }

    /// Disables the interrupts, as dropping does, and reports a refusal by the kernel. They are then disabled before
    /// interrupts that they exclude are next enabled, or when the device is closed.
    pub fn disable(mut self) -> Result<()> {
        self.end().map_err(|error| self.error(error))
    }

    fn end(&mut self) -> Result<()> {
        // After fork, the device and its interrupts belong to the parent.
        if self.ended || self.process != this_process() {
            return Ok(());
        }
        self.ended = true;
        let mut irqs = self.handle.irqs();
        let done = disable(&self.handle, self.kind);
        irqs[self.kind.index() as usize] = match done {
            Ok(()) => Enabled::No,
            Err(_) => Enabled::Left,
        };
        done
    }

    fn apply(&self, action: u32, start: u32, data: IrqData<'_>) -> Result<()> {
        let done = vfio::device_set_irqs(
            self.handle.fd.as_fd(),
            action,
            self.kind.index(),
            start,
            data,
        );
        done.map(drop)
            .map_err(|errno| self.error(refused(self.kind, errno)))
    }

    fn error(&self, error: Error) -> Error {
        named(error, self.address)
    }
}

impl<F: AsFd> Drop for Interrupts<F> {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn disable<F: AsFd>(handle: &Handle<F>, kind: IrqKind) -> Result<()> {
    let data = match kind.is_exclusive() {
        true => IrqData::All(0),
        // Newer kernels refuse this for these kinds if they have no eventfd.
        false => IrqData::Eventfds(&[None]),
    };
    let done = vfio::device_set_irqs(handle.fd.as_fd(), abi::IRQ_TRIGGER, kind.index(), 0, data);
    done.map(drop).map_err(|errno| refused(kind, errno))
}

/// An eventfd could not be made.
pub(super) fn no_eventfd(errno: Errno) -> Error {
    let error = Error::call("eventfd2", errno);
    match errno {
        Errno::MFILE => error
            .of_kind(ErrorKind::OutOfMemory)
            .with_remedy("raise the number of files that this process may open (ulimit -n)"),
        _ => error,
    }
}

fn refused(kind: IrqKind, errno: Errno) -> Error {
    let error = Error::call(format!("{}: {kind}", vfio::DEVICE_SET_IRQS.name), errno);
    match errno {
        Errno::NOSPC => error
            .of_kind(ErrorKind::OutOfMemory)
            .with_remedy("the machine has no interrupt vectors left"),
        Errno::INVAL if kind.is_exclusive() => error.with_remedy(
            "check that each file is an eventfd, and that nobody else has enabled another kind of interrupt of this device",
        ),
        Errno::NODEV if kind == IrqKind::Intx => {
            error.with_remedy("the device's interrupt line leads nowhere: use MSI or MSI-X")
        }
        _ => error,
    }
}
