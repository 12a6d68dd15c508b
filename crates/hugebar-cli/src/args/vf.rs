//! Arguments of `vf`.

use clap::Args as Arguments;

use super::change::ChangeArgs;
use super::columns::{TableArgs, VfColumn};

#[derive(Arguments, Debug)]
#[command(mut_arg("dry_run", |own| own.requires("number")))]
#[command(mut_arg("columns", |own| {
    own.help("Print a table of the virtual functions, with these columns in this order")
        .conflicts_with("dry_run")
}))]
#[command(mut_arg("no_headings", |own| own.requires("columns")))]
pub(crate) struct VfArgs {
    /// The physical function, in any form that map accepts
    #[arg(value_name = "DEV")]
    pub(crate) device: String,

    /// How many virtual functions it shall have [default: changes nothing]
    #[arg(value_name = "N")]
    pub(crate) number: Option<u16>,

    /// Remove virtual functions that are in use, and change their number by way of 0
    #[arg(long, requires = "number")]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) table: TableArgs<VfColumn>,

    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}
