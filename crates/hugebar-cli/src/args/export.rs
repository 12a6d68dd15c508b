//! Arguments that write for other programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args as Arguments;

#[derive(Arguments, Debug)]
pub(crate) struct MetricsArgs {
    /// Print gauges for Prometheus (text format 0.0.4), or write them to a file, which is replaced whole
    ///
    /// For the textfile collector of the node exporter: the name of the file has to end with .prom.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        conflicts_with = "json"
    )]
    prometheus: Option<Option<PathBuf>>,
}

#[derive(Arguments, Debug)]
pub(crate) struct FeaturesArgs {
    /// Print features for node-feature-discovery, or write them to a file, which is replaced whole
    ///
    /// For the folder features.d of its local source.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        conflicts_with_all = ["json", "prometheus"]
    )]
    nfd: Option<Option<PathBuf>>,

    /// How long these features count: 90s, 10min, 1h
    #[arg(
        long = "nfd-expiry",
        value_name = "TIME",
        default_value = "1h",
        value_parser = humantime::parse_duration
    )]
    pub(crate) expiry: Duration,
}

/// Where to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    Stdout,
    File(&'a Path),
}

impl MetricsArgs {
    /// Where gauges are wanted.
    pub(crate) fn target(&self) -> Option<Target<'_>> {
        self.prometheus.as_ref().map(target)
    }
}

impl FeaturesArgs {
    /// Where features are wanted.
    pub(crate) fn target(&self) -> Option<Target<'_>> {
        self.nfd.as_ref().map(target)
    }
}

fn target(file: &Option<PathBuf>) -> Target<'_> {
    match file {
        Some(file) if file != Path::new("-") => Target::File(file),
        _ => Target::Stdout,
    }
}
