//! Arguments of `bind` and `restore`.

use clap::Args as Arguments;

use super::change::ChangeArgs;

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

    #[command(flatten)]
    pub(crate) change: ChangeArgs,
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
