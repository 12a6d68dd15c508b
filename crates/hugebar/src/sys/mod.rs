//! Every system call, ioctl number and kernel struct of the crate, and nothing else. Only text in `/proc`
//! and `/sys` is read elsewhere, by `std::fs`.
//!
//! Functions here do one call each, return the kernel's errno as it is, and know nothing of plans
//! or devices. All that can leave something behind when it fails goes through [`seam`], where tests count
//! calls and make them fail.

pub(crate) mod abi;
pub(crate) mod eventfd;
pub(crate) mod file;
pub(crate) mod fork;
#[cfg(test)]
mod headers;
pub(crate) mod ioctl;
pub(crate) mod iommufd;
#[cfg(feature = "kvm")]
pub(crate) mod kvm;
pub(crate) mod maps;
pub(crate) mod mm;
pub(crate) mod process;
pub(crate) mod seam;
pub(crate) mod vfio;
