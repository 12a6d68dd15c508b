//! Interrupts of a device: enabling them, and their eventfds.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::Duration;

use hugebar::vfio::{Interrupts, IrqKind};

use crate::argument::{array, descriptor, invalid};
use crate::device::hugebar_device;
use crate::error::{Failure, Result, call};
use crate::handle;

/// The interrupt line: a single interrupt, which the kernel masks when it fires.
pub const HUGEBAR_IRQ_INTX: u32 = 0;
/// Messages: one, or up to 32.
pub const HUGEBAR_IRQ_MSI: u32 = 1;
/// Up to 2048 messages, from a table in a BAR.
pub const HUGEBAR_IRQ_MSIX: u32 = 2;
/// The kernel was told of an uncorrected error (AER).
pub const HUGEBAR_IRQ_ERROR: u32 = 3;
/// The kernel wants the device back, because somebody unbinds or removes it.
pub const HUGEBAR_IRQ_REQUEST: u32 = 4;

/// They can signal eventfds.
pub const HUGEBAR_IRQ_EVENTFD: u32 = 1;
/// They can be masked and unmasked.
pub const HUGEBAR_IRQ_MASKABLE: u32 = 2;
/// The kernel masks an interrupt when it fires.
pub const HUGEBAR_IRQ_AUTOMASKED: u32 = 4;
/// Vectors cannot be added later.
pub const HUGEBAR_IRQ_NORESIZE: u32 = 8;

/// Enabled interrupts of one kind.
pub struct hugebar_interrupts(RwLock<Interrupts>);

/// What a device has of one kind of interrupt.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct hugebar_irq_info {
    /// How many; 0 if there are none of this kind.
    pub count: u32,
    /// `HUGEBAR_IRQ_EVENTFD` and others.
    pub flags: u32,
}

impl hugebar_interrupts {
    fn new(own: Interrupts) -> Self {
        Self(RwLock::new(own))
    }

    fn read(&self) -> RwLockReadGuard<'_, Interrupts> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a vector. A thread that waits for one is not waited for.
    fn change(&self, change: impl FnOnce(&mut Interrupts) -> hugebar::Result<()>) -> Result<()> {
        let mut own = match self.0.try_write() {
            Ok(own) => own,
            Err(TryLockError::Poisoned(own)) => own.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let message = "another thread uses these interrupts";
                return Err(Failure::new(libc::EBUSY, message));
            }
        };
        Ok(change(&mut own)?)
    }
}

/// A kind of interrupt.
fn kind(given: u32) -> Result<IrqKind> {
    Ok(match given {
        HUGEBAR_IRQ_INTX => IrqKind::Intx,
        HUGEBAR_IRQ_MSI => IrqKind::Msi,
        HUGEBAR_IRQ_MSIX => IrqKind::Msix,
        HUGEBAR_IRQ_ERROR => IrqKind::Error,
        HUGEBAR_IRQ_REQUEST => IrqKind::Request,
        _ => return Err(invalid(format!("{given} is no kind of interrupt"))),
    })
}

/// An eventfd; -1 stands for none.
///
/// # Safety
///
/// As for [`descriptor`].
unsafe fn eventfd<'a>(fd: c_int) -> Result<Option<BorrowedFd<'a>>> {
    match fd {
        -1 => Ok(None),
        // SAFETY: the caller's contract.
        fd => Ok(Some(unsafe { descriptor(fd) }?)),
    }
}

/// Returns how many interrupts of a kind (`HUGEBAR_IRQ_INTX` or another) the device has, and what they support.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_device_irq_info(
    device: *const hugebar_device,
    kind: u32,
    info: Option<&mut MaybeUninit<hugebar_irq_info>>,
) -> c_int {
    handle::tell(info, device, |device| {
        let own = device.0.irq_info(self::kind(kind)?)?;
        let known = HUGEBAR_IRQ_EVENTFD
            | HUGEBAR_IRQ_MASKABLE
            | HUGEBAR_IRQ_AUTOMASKED
            | HUGEBAR_IRQ_NORESIZE;
        Ok(hugebar_irq_info {
            count: own.count,
            flags: own.flags.bits() & known,
        })
    })
}

/// Enables the first `count` interrupts of a kind, each with an eventfd of its own. INTx, MSI and MSI-X exclude one
/// another: -EBUSY while another is enabled. MSI and MSI-X need `hugebar_device_set_bus_master`.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_interrupts_enable(
    device: *const hugebar_device,
    kind: u32,
    count: u32,
    interrupts: Option<&mut MaybeUninit<*mut hugebar_interrupts>>,
) -> c_int {
    handle::give(interrupts, || {
        let device = handle::get(device)?;
        let own = device.0.enable_irqs(self::kind(kind)?, count)?;
        Ok(hugebar_interrupts::new(own))
    })
}

/// Enables interrupts of a kind with eventfds of the program's, one for each vector, such as those that KVM injects
/// interrupts from. -1 leaves a vector out. They may be closed afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hugebar_interrupts_enable_with(
    device: *const hugebar_device,
    kind: u32,
    eventfds: *const c_int,
    count: usize,
    interrupts: Option<&mut MaybeUninit<*mut hugebar_interrupts>>,
) -> c_int {
    handle::give(interrupts, || {
        let device = handle::get(device)?;
        // SAFETY: the caller's contract.
        let eventfds = unsafe { array(eventfds, count) }?.iter();
        // SAFETY: the caller keeps them open during the call.
        let eventfds = eventfds.map(|&fd| unsafe { eventfd(fd) });
        let eventfds = eventfds.collect::<Result<Vec<_>>>()?;
        let own = device.0.enable_irqs_with(self::kind(kind)?, &eventfds)?;
        Ok(hugebar_interrupts::new(own))
    })
}

/// Disables interrupts. On an error of the kernel the handle is closed as well, and they are disabled before others are
/// enabled, or when the device is closed. With -EBUSY another thread uses the handle, which stays open.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_interrupts_close(interrupts: *mut hugebar_interrupts) -> c_int {
    call(|| {
        let own = handle::take(interrupts)?.0.into_inner();
        Ok(own.unwrap_or_else(PoisonError::into_inner).disable()?)
    })
}

/// Returns the eventfd of a vector, to poll it together with others: it is close-on-exec and nonblocking, and reading
/// its eight bytes returns how often the interrupt fired. It stays the library's: do not close it, and use it no longer
/// than the handle. -EINVAL for a vector that is not enabled or has an eventfd of the program's.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_interrupts_fd(
    interrupts: *const hugebar_interrupts,
    vector: u32,
    fd: Option<&mut MaybeUninit<c_int>>,
) -> c_int {
    handle::tell(fd, interrupts, |own| {
        let own = own.read();
        let none = || invalid(format!("vector {vector} has no eventfd of the library's"));
        Ok(own.fd(vector).ok_or_else(none)?.as_raw_fd())
    })
}

/// Waits until a vector fires, for `timeout_ms` milliseconds at most, or for good if that is negative. Returns how
/// often it fired since the last call, 0 if the time was over. Signals do not end it.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_interrupts_wait(
    interrupts: *const hugebar_interrupts,
    vector: u32,
    timeout_ms: c_int,
    times: Option<&mut MaybeUninit<u64>>,
) -> c_int {
    handle::tell(times, interrupts, |own| {
        let time = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        Ok(own.read().wait(vector, time)?)
    })
}

/// Masks INTx. -ENOTSUP for other kinds: take the eventfd from a vector (`hugebar_interrupts_set`), or silence the
/// device.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_interrupts_mask(interrupts: *const hugebar_interrupts) -> c_int {
    call(|| Ok(handle::get(interrupts)?.read().mask()?))
}

/// Unmasks INTx, which the kernel masks each time it fires. Call it after serving the device: if its line is still
/// asserted, the interrupt fires again at once.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_interrupts_unmask(interrupts: *const hugebar_interrupts) -> c_int {
    call(|| Ok(handle::get(interrupts)?.read().unmask()?))
}

/// Lets the kernel unmask INTx whenever an eventfd of the program's is signalled, as KVM does when a guest has ended
/// its interrupt. -1 ends this. -EBUSY while another eventfd does so.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_interrupts_unmask_by(
    interrupts: *const hugebar_interrupts,
    eventfd: c_int,
) -> c_int {
    call(|| {
        let own = handle::get(interrupts)?;
        // SAFETY: the caller keeps it open during the call.
        let eventfd = unsafe { self::eventfd(eventfd) }?;
        Ok(own.read().unmask_by(eventfd)?)
    })
}

/// Signals a vector's eventfd as if the device had fired, as a test.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_interrupts_trigger(
    interrupts: *const hugebar_interrupts,
    vector: u32,
) -> c_int {
    call(|| Ok(handle::get(interrupts)?.read().trigger(vector)?))
}

/// Enables one more vector, or one that was left out, with an eventfd of its own. The others stay enabled. -ENOTSUP for
/// a vector that the device does not have, or beyond those enabled first with `HUGEBAR_IRQ_NORESIZE`; -EBUSY while
/// another thread uses the handle.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_interrupts_add(
    interrupts: *const hugebar_interrupts,
    vector: u32,
) -> c_int {
    call(|| handle::get(interrupts)?.change(|own| own.add(vector)))
}

/// Makes a vector signal an eventfd of the program's, or none with -1. It can add vectors, and fails, as
/// `hugebar_interrupts_add`.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_interrupts_set(
    interrupts: *const hugebar_interrupts,
    vector: u32,
    eventfd: c_int,
) -> c_int {
    call(|| {
        let own = handle::get(interrupts)?;
        // SAFETY: the caller keeps it open during the call.
        let eventfd = unsafe { self::eventfd(eventfd) }?;
        own.change(|own| own.set(vector, eventfd))
    })
}
