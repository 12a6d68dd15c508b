//! Columns of tables.

use clap::{Args as Arguments, ValueEnum};

/// Which columns of a table, by their names.
#[derive(Arguments, Debug)]
pub(crate) struct TableArgs<C: ValueEnum + Send + Sync + 'static> {
    /// Which columns to print, in this order
    #[arg(
        short = 'o',
        long = "output",
        value_name = "COLUMNS",
        value_delimiter = ','
    )]
    pub(crate) columns: Vec<C>,

    /// Print no heading
    #[arg(long = "noheadings", alias = "no-headings")]
    pub(crate) no_headings: bool,
}

/// Columns of `list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListColumn {
    /// Full PCI address
    Device,
    /// Size of the largest BAR
    Size,
    /// Its number
    Bar,
    /// Its physical address
    Physical,
    /// All BARs of memory: number and size
    Bars,
    /// Driver
    Driver,
    /// IOMMU group
    Group,
    /// NUMA node
    Numa,
    /// Power state
    Power,
    /// vendor:device
    Ids,
    /// Kind of device
    Class,
    /// Vendor and device, from the system's pci.ids
    Name,
}

/// Columns of `vf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VfColumn {
    /// Full PCI address of a virtual function
    Device,
    /// Its driver
    Driver,
    /// Its IOMMU group
    Group,
}

/// Columns of `inspect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectColumn {
    /// Process ID
    Pid,
    /// Name of the process
    Process,
    /// Full PCI address of the device
    Device,
    /// Its driver
    Driver,
    /// Region: 0 to 5 are BARs
    Region,
    /// Offset in the region
    Offset,
    /// Size of the mapping
    Size,
    /// Its address
    Address,
    /// Its physical address
    Physical,
    /// The largest leaf size modulo which these agree
    Congruent,
    /// The leaves that it can have
    Possible,
    /// The leaves at the best address
    Best,
    /// Judgement
    Judgement,
    /// Codes of the reasons
    Reasons,
}
