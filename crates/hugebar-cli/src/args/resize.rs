//! Arguments of `resize`.

use clap::Args as Arguments;

use super::change::ChangeArgs;
use super::parse::{parse_bar, parse_size};

#[derive(Arguments, Debug)]
#[command(mut_arg("dry_run", |own| own.requires("size")))]
pub(crate) struct ResizeArgs {
    /// The device, in any form that map accepts
    #[arg(value_name = "DEV")]
    pub(crate) device: String,

    /// The BAR
    #[arg(long, value_name = "N", value_parser = parse_bar)]
    pub(crate) bar: u32,

    /// The size that it shall have, such as 16G [default: changes nothing]
    #[arg(value_name = "SIZE", value_parser = parse_size)]
    pub(crate) size: Option<u64>,

    /// Take the device from its driver although it is in use: its users lose it
    #[arg(long, requires = "size")]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}
