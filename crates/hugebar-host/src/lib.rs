//! Checks whether a Linux host and its processes map PCI BARs with large pages.
//!
//! For programs other than the one that maps: the command `hugebar`, metrics exporters,
//! device plugins of container orchestrators, and hooks that run before a virtual machine starts.
//! A program that maps BARs itself needs only [`hugebar`].
//!
//! * [`doctor`] checks everything between firmware and mapping, step by step.
//! * [`inspect`] shows the device mappings of running processes, and the leaves that they can have.
//! * [`procfs`] reads `/proc/PID` with a deadline and in bounded memory.
//! * [`populate`] picks this host's way to populate BARs, and [`measure`] counts their leaves that way.
//! * [`preload`] finds out whether a program that does not use hugebar can be started with `libhugebar_preload.so`.
//! * [`page_tables`] reads the leaves of this process from the kernel's page-table dump.
//!
//! Results are data: codes, numbers, and facts and remedies of one line each. Nothing here opens a device,
//! which would reset it, and nothing disturbs another process unless asked to.
//!
//! ```no_run
//! use hugebar::facts::Facts;
//! use hugebar_host::doctor::{self, Status};
//! use hugebar_host::inspect::Inspector;
//!
//! # fn main() -> Result<(), hugebar_host::Error> {
//! let facts = Facts::observe();
//!
//! // May a virtual machine with this device start?
//! let function = hugebar::pci::locate("0000:01:00.0")?;
//! let mut steps = doctor::host(&facts)?;
//! steps.extend(doctor::device(&function, &facts)?);
//! for step in steps.iter().filter(|step| step.status == Status::Blocker) {
//!     println!("{}: {}", step.step, step.fact);
//! }
//!
//! // Did running processes get the large pages that they could have?
//! for process in Inspector::new(&facts)?.all()?.processes {
//!     for mapping in process.mappings.iter().filter(|mapping| !mapping.optimal) {
//!         println!("{} at {:#x}: {}", process.name, mapping.address, mapping.judgement);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! * `serde`: makes the doctor's steps serialisable.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

pub mod doctor;
mod error;
pub mod escape;
pub mod inspect;
pub mod measure;
pub mod page_tables;
pub mod populate;
pub mod preload;
pub mod procfs;
mod sysfs;

pub use error::{Error, ErrorKind};
