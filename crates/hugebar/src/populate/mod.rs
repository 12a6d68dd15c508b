//! Populating: having the kernel install the leaves of a mapping without touching the device.

mod install;
#[cfg(feature = "kvm")]
mod kvm;
mod present;
mod type1;

pub use install::{Installed, install};
#[cfg(feature = "kvm")]
pub use kvm::Prefault;
pub use present::present;
pub use type1::Type1;

use std::time::Duration;

use crate::error::Result;
use crate::leaf::GIB;
use crate::mem::Span;

/// A way to have the kernel fault in parts of a mapping.
///
/// Afterwards only the leaves are left: everything else that was set up is undone.
pub trait Populate {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// Installs every leaf under the span, on the calling thread, and returns how long the
    /// kernel took for that alone.
    fn populate(&mut self, span: &Span<'_>) -> Result<Duration>;

    /// The longest span for one call, in bytes: short enough to react to signals in time.
    fn longest(&self) -> u64 {
        GIB
    }
}
