//! `cargo xtask bench`: measures what a mapping costs on each kernel, and writes docs/benchmarks.md.

mod fit;
mod guest;
mod measure;
mod output;
mod page;
mod part;
mod record;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use hugebar_lab::cache::Cache;
use hugebar_lab::{install, kernel};

use crate::shared::Consent;
use part::Part;
use record::Record;

/// Measure what mapping BARs costs, on real kernels in the virtual machine, and write docs/benchmarks.md with pictures.
///
/// The machine should have nothing else to do. Each part is a file in docs/benchmarks, and the page is made of those that are
/// there.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Measure only these parts, such as sizes-newest [default: all]
    #[arg(long, value_delimiter = ',', value_name = "PARTS", value_parser = Part::named)]
    part: Vec<Part>,
    /// Measure nothing: write the page from the files
    #[arg(long, conflicts_with = "part")]
    page: bool,
    /// Rounds of each measurement
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The folder for the page, and for files and pictures in `benchmarks` [default: docs]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    consent: Consent,
}

/// Measures and writes.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let docs = args.output.clone().unwrap_or(docs);
    let folder = docs.join("benchmarks");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let parts = match (args.page, args.part.as_slice()) {
        (true, _) => Vec::new(),
        (false, []) => Part::all(),
        (false, some) => some.to_vec(),
    };
    let mut code = ExitCode::SUCCESS;
    if !parts.is_empty() {
        install::ensure_all(args.consent.yes)?;
    }
    for part in parts {
        kernel::prepare(&Cache::open()?, part.kernel, part.arch, args.consent.yes)?;
        eprintln!("Measuring {part}");
        let measured = measure::part(part, args.rounds, &mut |name, text| {
            write(&folder.join(name), text)
        });
        match measured {
            Ok(record) => record.write(&folder, part)?,
            // The others are measured all the same.
            Err(error) => {
                eprintln!("error: {part}: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    let mut records = Vec::new();
    for part in Part::all() {
        let record = Record::read(&folder, part)?;
        records.extend(record.map(|record| (part, record)));
    }
    ensure!(!records.is_empty(), "nothing has been measured");
    write(&docs.join("benchmarks.md"), &page::page(&records)?)?;
    Ok(code)
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| file.display().to_string())?;
    println!("wrote {}", file.display());
    Ok(())
}
