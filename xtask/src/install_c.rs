//! `cargo xtask install-c`: the library for C and C++.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use hugebar_lab::capi::{self, Destination};

/// Install libhugebar.so, libhugebar.a, hugebar.h and hugebar.pc, for programs in C and C++.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where they are used
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
    /// The folder for libraries, below the prefix, such as lib64 or lib/x86_64-linux-gnu
    #[arg(long, value_name = "DIR", default_value = "lib")]
    libdir: PathBuf,
    /// Install below this folder instead of /, for packages
    #[arg(long, value_name = "DIR")]
    destdir: Option<PathBuf>,
}

/// Builds and installs them.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let destination = Destination {
        prefix: &args.prefix,
        libdir: &args.libdir,
        destdir: args.destdir.as_deref(),
    };
    for file in capi::install(&destination, capi::PROFILE)? {
        println!("{}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}
