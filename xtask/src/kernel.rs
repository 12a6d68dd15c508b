//! `cargo xtask kernel`: the lab kernel, built from the newest source.

use std::process::ExitCode;

use anyhow::Result;
use hugebar_lab::cache::Cache;
use hugebar_lab::{Arch, install, kernel};

use crate::shared::Consent;

/// Build the lab kernel, unless the newest source has been built already, and print where it is.
///
/// It has VFIO's device files, iommufd, no-IOMMU, a dump of page tables and KVM (see lab/kernel.config), which Debian's own
/// kernels lack in part. That of arm64 has pages of 64 KiB, VFIO's device files and iommufd (see lab/kernel-arm64.config).
/// Takes minutes, and temporarily 2.8 GiB of the cache.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernel's architecture, x86-64 or arm64
    #[arg(long, default_value_t)]
    arch: Arch,
    #[command(flatten)]
    consent: Consent,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    install::ensure_build(args.arch, args.consent.yes)?;
    let kernel = kernel::build_lab(&Cache::open()?, args.arch)?;
    println!(
        "lab: Linux {}, {}",
        kernel.release,
        kernel.vmlinuz.display()
    );
    Ok(ExitCode::SUCCESS)
}
