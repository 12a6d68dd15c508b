//! Map PCI BARs with the largest pages the kernel will give, and know that it did.
//!
//! Since Linux 6.12 a device's memory can be mapped through VFIO with 2 MiB and 1 GiB pages, if its
//! addresses are congruent with the physical ones and, on some kernels, hinted before the first touch.
//! This crate finds such addresses for every region ([`plan`]), maps there ([`mem`]), has the kernel
//! install the pages without touching the device ([`populate`]), counts what it installed ([`census`])
//! and compares that with the best there could be ([`verdict`]).
//!
//! [`vfio::Device::map_bar`] does all of that in one call ([`mod@bar`]):
//!
//! ```no_run
//! use hugebar::{iommu::Container, populate::Type1, vfio::Device};
//!
//! # fn main() -> hugebar::Result<()> {
//! let container = Container::open()?;
//! let device = Device::open_in("0000:01:00.0".parse()?, &container)?;
//! let bar = device.map_bar(2)?;
//! let result = bar.measure(&mut Type1::new(&container)?)?;
//! println!("{:?}: best {}, measured {}", result.verdict, result.best, result.census.measured);
//! # Ok(())
//! # }
//! ```
//!
//! Each step can be used alone: [`mem::Mapping`] takes any file descriptor that can be mapped, and
//! addresses of the caller's own by [`mem::Window::within`].
//!
//! # Features
//!
//! * `kvm`: populating by KVM, and the leaves that KVM has of its own (`kvm`).
//! * `serde`: reports (leaves, placements, verdicts, kinds of errors) serialise.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("hugebar is for 64-bit Linux: VFIO and its large BARs are nowhere else");

extern crate alloc;

pub mod bar;
mod caps;
pub mod census;
pub mod dma;
mod error;
pub mod facts;
pub mod guest;
pub mod iommu;
#[cfg(feature = "kvm")]
pub mod kvm;
pub mod layout;
pub mod leaf;
pub mod mem;
pub mod pci;
pub mod phys;
pub mod plan;
pub mod populate;
pub mod reason;
mod sys;
pub mod verdict;
pub mod vfio;

pub use error::{Error, ErrorKind, Result};

/// For tests: counts the system calls of this crate and makes any one of them fail.
#[cfg(hugebar_seam)]
#[doc(hidden)]
pub mod seam {
    pub use crate::sys::seam::{Fault, fail, record};
}

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The examples of the integration guide compile.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/integration.md")]
struct Integration;
