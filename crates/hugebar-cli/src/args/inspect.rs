//! Arguments of `inspect`.

use std::time::Duration;

use clap::Args as Arguments;
use hugebar::verdict::Requirement;

use super::columns::{InspectColumn, TableArgs};
use super::export::MetricsArgs;
use super::parse::parse_requirement;

#[derive(Arguments, Debug)]
#[command(mut_arg("columns", |own| {
    own.help("Print one table of all mappings, with these columns in this order")
        .conflicts_with("prometheus")
}))]
#[command(mut_arg("no_headings", |own| own.requires("columns")))]
pub(crate) struct InspectArgs {
    /// A process, or a device in any form that map accepts [default: all processes]
    #[arg(value_name = "PID|DEV")]
    pub(crate) target: Option<String>,

    /// Exit with 1 unless every mapping can have as few leaves as possible, or there are aligned
    /// blocks of this size and leaves of at least this size can map them all
    #[arg(long, value_name = "optimal|SIZE", value_parser = parse_requirement)]
    pub(crate) require: Option<Requirement>,

    /// Also read smaps, which shows the hints but removes the 1 GiB leaves of the process
    #[arg(long)]
    pub(crate) smaps: bool,

    /// Also show who has smaps, smaps_rollup or numa_maps of these processes open, looking for so long
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "0s",
        conflicts_with_all = ["prometheus", "columns"],
        value_parser = humantime::parse_duration
    )]
    pub(crate) watchers: Option<Duration>,

    #[command(flatten)]
    pub(crate) table: TableArgs<InspectColumn>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) metrics: MetricsArgs,
}
