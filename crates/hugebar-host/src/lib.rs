//! Checks whether a Linux host and its processes map PCI BARs with large pages.
//!
//! For programs other than the one that maps: the command `hugebar`, metrics exporters,
//! device plugins of container orchestrators, and hooks that run before a virtual machine starts.
//! A program that maps BARs itself needs only [`hugebar`].
//!
//! * [`devices`] lists PCI functions with large BARs, with names from [`pci_ids`].
//! * [`show`] tells what is known about one of them, such as what keeps a BAR from being larger.
//! * [`doctor`] checks everything between firmware and mapping, step by step.
//! * [`inspect`] shows the device mappings of running processes, and the leaves that they can have.
//! * [`admin`] binds devices to VFIO's drivers and gives them back, creates virtual functions and resizes BARs, unless
//!   they are in use.
//! * [`procfs`] reads `/proc/PID` with a deadline and in bounded memory.
//! * [`populate`] picks this host's way to populate BARs, and [`measure`] counts their leaves that way.
//! * [`cost`] counts the leaves of a mapping that does not exist.
//! * [`preload`] finds out whether a program that does not use hugebar can be started with `libhugebar_preload.so`.
//! * [`page_tables`] reads the leaves of this process from the kernel's page-table dump.
//!
//! Results are data: codes, numbers, and facts and remedies of one line each. Nothing here opens a device by VFIO,
//! which would reset it. Only [`admin`] changes anything, and nothing else disturbs another process unless asked to.
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
//! * `serde`: makes findings, such as the doctor's steps, serialisable.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

pub mod admin;
mod bridge;
pub mod cost;
pub mod devices;
pub mod doctor;
mod error;
pub mod escape;
pub mod inspect;
pub mod measure;
pub mod page_tables;
pub mod pci_ids;
pub mod populate;
pub mod preload;
pub mod procfs;
pub mod show;
mod sysfs;

pub use error::{Error, ErrorKind};
