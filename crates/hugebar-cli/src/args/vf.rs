//! Arguments of `vf`.

use clap::Args as Arguments;

pub(crate) const VF_EXAMPLES: &str = "\
Examples:
  hugebar vf 01:00.0                               how many there are, and the room for their BARs
  hugebar vf 01:00.0 4                             creates four
  hugebar vf 01:00.0 0                             removes all";

#[derive(Arguments, Debug)]
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

    /// Print the steps, as lines for a shell, and do nothing
    #[arg(long, requires = "number")]
    pub(crate) dry_run: bool,

    /// How long the kernel may take for each step
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) timeout: u64,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
