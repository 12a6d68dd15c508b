//! Arguments that the commands which change a device have in common.

use clap::Args as Arguments;

#[derive(Arguments, Debug)]
pub(crate) struct ChangeArgs {
    /// Print the steps, as lines for a shell, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// How long the kernel may take for each step
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) timeout: u64,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
