//! Starting programs with `libhugebar_preload.so`, which gives their VFIO mappings large pages: whether a program can
//! be reached that way, and the variables that the loader and the library read.
//!
//! ```no_run
//! use std::os::unix::process::CommandExt;
//! use std::process::Command;
//! use hugebar_host::preload::{self, Program};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let program = Program::find("qemu-system-x86_64".as_ref())?;
//! let library = preload::library().ok_or("libhugebar_preload.so is not installed")?;
//! let before = std::env::var_os(preload::VARIABLE);
//! let value = preload::value(&library, before.as_deref())?;
//! let error = Command::new(program.path()).env(preload::VARIABLE, value).exec();
//! # Err(error.into())
//! # }
//! ```

mod elf;
mod library;
mod program;
mod refusal;
mod report;

pub use library::{VARIABLE, library, value};
pub use program::Program;
pub use refusal::{Reason, Refusal};
pub use report::{REPORT_VARIABLE, report_to_descriptor, report_to_file};
