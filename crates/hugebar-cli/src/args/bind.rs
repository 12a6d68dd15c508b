//! Arguments of `bind` and `restore`.

use clap::Args as Arguments;

#[derive(Arguments, Debug)]
pub(crate) struct RestoreArgs {
    /// The devices, in any form that map accepts
    #[arg(value_name = "DEV", required = true)]
    pub(crate) devices: Vec<String>,

    /// All functions of the devices' IOMMU groups, such as a GPU and its audio; never bridges
    #[arg(long)]
    pub(crate) group: bool,

    /// Take devices that are in use: their users lose them
    #[arg(long)]
    pub(crate) force: bool,

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

#[derive(Arguments, Debug)]
pub(crate) struct BindArgs {
    #[command(flatten)]
    pub(crate) common: RestoreArgs,

    /// The driver: vfio-pci, or a variant for the device
    #[arg(long, value_name = "NAME", default_value = "vfio-pci")]
    pub(crate) driver: String,

    /// Give the device files to this user, for programs without privilege
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) owner: Option<String>,
}
