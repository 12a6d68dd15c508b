//! `cargo xtask bench`: measures what a mapping costs on each kernel, and writes docs/benchmarks.md.

mod fit;
mod measure;
mod page;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use hugebar_lab::cache::Cache;
use hugebar_lab::{Arch, install, kernel};

use crate::shared::{Consent, guest_failed};

/// Measure what mapping BARs costs, on real kernels in the virtual machine, and write docs/benchmarks.md with pictures.
///
/// The machine should have nothing else to do. Takes about ten minutes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernels, as for vm
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "6.12,6.18,newest",
        value_name = "KERNELS"
    )]
    kernel: Vec<String>,
    /// Rounds of each measurement
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds for each command; what would not fit is left out
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    budget: u64,
    /// The folder for the page and its pictures [default: docs]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    consent: Consent,
}

/// Measures and writes.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    install::ensure_all(args.consent.yes)?;
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let folder = args.output.clone().unwrap_or(docs);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut kernels = Vec::new();
    for name in &args.kernel {
        kernel::prepare(&Cache::open()?, name, Arch::X86_64, args.consent.yes)?;
        eprintln!("Measuring on {name}");
        match measure::on(name, args.rounds, args.budget) {
            Ok(measured) => kernels.push(measured),
            Err(error) => return guest_failed(error),
        }
    }
    for own in &kernels {
        write(&folder.join(page::picture(&own.name)), &own.svg)?;
    }
    write(&folder.join("benchmarks.md"), &page::page(&kernels)?)?;
    Ok(ExitCode::SUCCESS)
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| file.display().to_string())?;
    println!("wrote {}", file.display());
    Ok(())
}
