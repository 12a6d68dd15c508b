//! The arguments of `bench`.

use std::path::PathBuf;

use clap::Args as Arguments;

use hugebar::layout::Area;

use super::choice::{Backend, Hint, Placement};
use super::parse::{Limit, parse_area, parse_bar, parse_limit, parse_size};

#[derive(Arguments, Debug)]
pub(crate) struct BenchArgs {
    /// The devices, in any form that map accepts
    #[arg(value_name = "DEV", required = true)]
    pub(crate) devices: Vec<String>,

    /// Which BAR of each device [default: the largest that can be mapped]
    #[arg(long, value_name = "N", value_parser = parse_bar)]
    pub(crate) bar: Option<u32>,

    /// How much of the BAR, from its start; what is longer than the BAR is ignored [default: some, up to all]
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = parse_size)]
    pub(crate) sizes: Vec<u64>,

    /// Leave this part of the BAR unmapped, rounded out to whole pages; can be given several times
    #[arg(long = "exclude", value_name = "OFFSET+SIZE", value_parser = parse_area)]
    pub(crate) excluded: Vec<Area>,

    /// How to choose addresses
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "plain,size-aligned,congruent"
    )]
    pub(crate) placement: Vec<Placement>,

    /// Which madvise to give before anything touches the mapping
    #[arg(long, default_value = "auto")]
    pub(crate) hint: Hint,

    /// How to open the devices
    #[arg(long, default_value = "auto")]
    pub(crate) backend: Backend,

    /// How often each mapping is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,

    /// Leave out what would not end within this time, of which each placement has an equal share
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) budget: u64,

    /// Leave out mappings with more base pages than this; "none" for no limit
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = parse_limit)]
    pub(crate) limit: Limit,

    /// Do not make it present, so that leaves are not counted
    #[arg(long)]
    pub(crate) no_present: bool,

    /// Do not map the whole for peer-to-peer DMA, where the kernel walks every base page
    #[arg(long)]
    pub(crate) no_dma: bool,

    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,

    /// Print CSV, a row for each mapping
    #[arg(long)]
    pub(crate) csv: bool,

    /// Write a picture: time and leaves by size
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// Write a page with tables and pictures
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}
