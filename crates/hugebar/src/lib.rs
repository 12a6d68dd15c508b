//! Maps PCI BARs with the largest pages the kernel can use, and verifies the result.
//!
//! Since Linux 6.12 VFIO can map a device's memory with 2 MiB and 1 GiB pages, if its virtual
//! addresses are congruent with the physical ones and, on some kernels, hinted before the first access.
//! This crate finds such addresses for every region ([`plan`]), maps there ([`mem`]), has the kernel
//! install the pages without touching the device ([`populate`]), counts the installed leaves ([`census`])
//! and compares them with the best possible ([`verdict`]).
//!
//! [`vfio::Device::map_bar`] maps a BAR in one call ([`mod@bar`]):
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
//! [`mem::Window::within`] takes addresses from the caller.
//!
//! # Features
//!
//! * `kvm`: populating by KVM, and KVM's own leaves (`kvm`).
//! * `serde`: makes reports (leaves, placements, verdicts, kinds of errors) serialisable.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("hugebar supports only 64-bit Linux: VFIO and large BARs exist nowhere else");

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

/// For tests: counts this crate's system calls and makes any of them fail.
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

/// The examples of the tutorial for drivers compile.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/driver.md")]
struct Driver;
