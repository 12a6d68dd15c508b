//! Every system call, ioctl number and kernel struct of the crate, and nothing else. Other modules only read text
//! in `/proc` and `/sys`, by `std::fs`.
//!
//! Functions here make one call each, return the kernel's errno unchanged, and do not depend on plans
//! or devices. Calls whose failure can leave something behind go through [`seam`], where tests count
//! them and make them fail.

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
