//! Real kernels in a small virtual machine: no hardware, no privilege and no KVM needed.
//!
//! ```no_run
//! use hugebar_lab::{Command, Spec, Thp};
//!
//! # fn main() -> anyhow::Result<()> {
//! let report = Spec::new("6.12")
//!     .thp(Thp::Madvise)
//!     .device("pci-testdev,membar=4G")
//!     .run(&[Command::new(["hugebar", "map", "0000:00:10.0", "--json"])])?;
//! assert!(report.commands[0].success());
//! # Ok(())
//! # }
//! ```

pub mod cache;
pub mod capi;
pub mod debian;
pub mod install;
pub mod kernel;
pub mod nested;
pub mod root;
pub mod toolchain;

mod apt;
mod arch;
mod boot;
mod console;
mod copy;
mod cross;
mod hang;
mod initramfs;
mod machine;
mod programs;
mod report;
mod slot;
mod spec;

pub use arch::Arch;
pub use copy::HostFile;
pub use cross::{Cross, shared_c_library};
pub use hugebar_lab_guest::job::{Command, Status, Thp};
pub use machine::DEFAULT_DEVICE;
pub use programs::{
    compile_c, example, example_for, hugebar, program, program_for, shared_library,
    shared_library_for, test_for, unit_tests_for,
};
pub use report::{Failure, FailureKind, Output, Report, Stream};
pub use slot::boots;
pub use spec::Spec;

use std::io::Write;

/// Reports on stderr what takes a while or deviates from the request, bypassing a test harness's capture of output.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "lab: {text}");
}
