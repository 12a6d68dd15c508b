//! The command line: defines arguments, help and usage errors.

mod bench;
mod bind;
mod change;
mod choice;
mod columns;
mod examples;
mod export;
mod inspect;
mod parse;
mod resize;
mod run;
mod vf;

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args as Arguments, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use hugebar::layout::Area;
use hugebar::leaf::LeafSizes;
use hugebar::verdict::Requirement;

pub(crate) use bench::BenchArgs;
pub(crate) use bind::{BindArgs, RestoreArgs};
pub(crate) use change::ChangeArgs;
pub(crate) use choice::{Backend, Hint, Placement};
use columns::TableArgs;
pub(crate) use columns::{InspectColumn, ListColumn, VfColumn};
pub(crate) use export::Target;
use export::{FeaturesArgs, MetricsArgs};
pub(crate) use inspect::InspectArgs;
pub(crate) use parse::Limit;
use parse::{parse_area, parse_bar, parse_limit, parse_requirement, parse_size};
pub(crate) use resize::ResizeArgs;
pub(crate) use run::{Destination, RunArgs};
pub(crate) use vf::VfArgs;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Map PCI BARs with the largest pages the kernel can use, and verify the result.
#[derive(Debug, Parser)]
#[command(name = "hugebar", version, styles = STYLES, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: 0 success, 1 --require not met or doctor found a blocker, 2 error or wrong usage."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Print each step to stderr
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,

    /// When to use colour
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    pub(crate) color: ColorChoice,
}

impl Args {
    /// Whether the command was asked for JSON.
    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::Map(map) => map.json,
            Command::Bench(bench) => bench.json,
            Command::Doctor(doctor) => doctor.json,
            Command::Inspect(inspect) => inspect.json,
            Command::Bind(bind) => bind.common.change.json,
            Command::Restore(restore) => restore.change.json,
            Command::Vf(vf) => vf.change.json,
            Command::Resize(resize) => resize.change.json,
            Command::Plan(plan) => plan.json,
            Command::List(list) => list.json,
            Command::Show(show) => show.json,
            Command::Completions(_) | Command::Man(_) => false,
            Command::Run(_) => false,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

impl ColorChoice {
    pub(crate) fn write_global(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Map a device's BARs, count the leaves that the kernel installs, and unmap them
    ///
    /// Opens the device by VFIO, which resets it, so no other process may have it open. Reads and
    /// writes no register in a BAR: the IOMMU or KVM has the kernel install the leaves.
    #[command(before_help = examples::MAP)]
    Map(MapArgs),
    /// Measure what mapping a BAR costs with each placement, side by side
    ///
    /// Opens the devices by VFIO, which resets them, so no other process may have them open. Reads and writes no register in a
    /// BAR, but turns memory decode off and on. Sizes and placements take turns in several rounds; what would take too long is left out.
    #[command(before_help = examples::BENCH)]
    Bench(BenchArgs),
    /// Show the device mappings of other processes, with the leaves that they can have
    ///
    /// Shows whether a virtual machine monitor or driver has the best possible mapping. Reads nothing
    /// that disturbs the process. Root sees all processes.
    #[command(before_help = examples::INSPECT)]
    Inspect(InspectArgs),
    /// Check everything between firmware and mapping, and suggest remedies
    ///
    /// Opens no device. Without DEV it checks only the host. Exits with 1 if something has to be
    /// fixed first.
    #[command(before_help = examples::DOCTOR)]
    Doctor(DoctorArgs),
    /// Compute the leaves of a mapping that does not exist, on this machine or another
    ///
    /// Pure arithmetic: needs no device and no privilege.
    #[command(before_help = examples::PLAN)]
    Plan(PlanArgs),
    /// List PCI devices with a BAR of 2 MiB or more, the largest first
    ///
    /// Reads sysfs, needs no privilege, and wakes no sleeping device.
    #[command(before_help = examples::LIST)]
    List(ListArgs),
    /// Show what is known about a device and its BARs: sizes, costs, and why a BAR is not larger
    ///
    /// Reads sysfs and opens no device, but wakes a sleeping one. Root sees more.
    #[command(before_help = examples::SHOW)]
    Show(ShowArgs),
    /// Print the completions for a shell
    ///
    /// For bash: hugebar completions bash > /usr/share/bash-completion/completions/hugebar
    Completions(CompletionsArgs),
    /// Print a manual page: of the program, or of one command
    ///
    /// To read one: hugebar man map | man -l -
    Man(ManArgs),
    /// Take devices from their drivers for VFIO, unless they are in use
    ///
    /// What they had is remembered in /run/hugebar, for restore. All devices are checked before the first is changed.
    #[command(before_help = examples::BIND)]
    Bind(BindArgs),
    /// Give devices back to the drivers that they had before bind
    #[command(alias = "unbind", before_help = examples::RESTORE)]
    Restore(RestoreArgs),
    /// Create, count and remove virtual functions, and show the room for their BARs
    ///
    /// The driver of the physical function creates them. Those in use are not removed.
    #[command(before_help = examples::VF)]
    Vf(VfArgs),
    /// Give a BAR another size, or show the sizes that it can have
    ///
    /// The driver lets go of the device meanwhile, unless it is in use.
    #[command(before_help = examples::RESIZE)]
    Resize(ResizeArgs),
    /// Start a program that does not use hugebar, such as QEMU, and give its BARs large pages
    ///
    /// Replaces its mmap by a preloaded library, which places mappings of VFIO devices so that they can have as few
    /// leaves as possible, and hints them. Everything else stays as it is. The exit status is the program's.
    #[command(before_help = examples::RUN)]
    Run(RunArgs),
}

#[derive(Arguments, Debug)]
pub(crate) struct MapArgs {
    /// The device: 0000:01:00.0, 01:00.0, its path in /sys, its node in /dev/vfio/devices, or
    /// vendor:device if only one device has these IDs
    #[arg(value_name = "DEV")]
    pub(crate) device: String,

    /// Only this BAR; can be given several times [default: every BAR that can be mapped]
    #[arg(long = "bar", value_name = "N", value_parser = parse_bar)]
    pub(crate) bars: Vec<u32>,

    /// Leave this part of the BAR unmapped, rounded out to whole pages; can be given several times
    #[arg(long = "exclude", value_name = "OFFSET+SIZE", value_parser = parse_area)]
    pub(crate) excluded: Vec<Area>,

    /// How to choose addresses
    #[arg(long, default_value = "congruent")]
    pub(crate) placement: Placement,

    /// Which madvise to give before anything touches the mapping
    #[arg(long, default_value = "auto")]
    pub(crate) hint: Hint,

    /// How to open the device
    #[arg(long, default_value = "auto")]
    pub(crate) backend: Backend,

    /// Exit with 1 unless there are as few leaves as possible, or there are aligned blocks of this
    /// size and leaves of at least this size map them all
    #[arg(long, value_name = "optimal|SIZE", value_parser = parse_requirement)]
    pub(crate) require: Option<Requirement>,

    /// Populate at most this much in base pages; "none" for no limit
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = parse_limit)]
    pub(crate) limit: Limit,

    /// Check the count against the page tables (needs root and an x86 kernel with
    /// CONFIG_PTDUMP_DEBUGFS)
    #[arg(long)]
    pub(crate) witness: bool,

    /// Keep the BARs mapped until a signal arrives
    #[arg(long)]
    pub(crate) hold: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Arguments, Debug)]
pub(crate) struct DoctorArgs {
    /// The device, in any form that map accepts [default: only the host]
    #[arg(value_name = "DEV")]
    pub(crate) device: Option<String>,

    /// Also write all that doctor, list, show and inspect find to a file for a bug report; - for stdout
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) report: Option<PathBuf>,

    /// Replace addresses, names of host and processes, and serial numbers in this file
    #[arg(long, requires = "report")]
    pub(crate) redact: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Arguments, Debug)]
pub(crate) struct PlanArgs {
    /// Size of the region: 4096, 0x1000, 24K, 2M, 1G
    #[arg(value_name = "SIZE", value_parser = parse_size)]
    pub(crate) size: u64,

    /// Leave this part unmapped, rounded out to whole pages; can be given several times
    #[arg(long = "exclude", value_name = "OFFSET+SIZE", value_parser = parse_area)]
    pub(crate) excluded: Vec<Area>,

    /// The machine's leaf sizes [default: this machine's]
    #[arg(long, value_name = "MACHINE")]
    pub(crate) sizes: Option<Sizes>,

    /// Physical address of the region [default: naturally aligned, as BARs are]
    #[arg(long = "at", value_name = "HPA", value_parser = parse_size)]
    pub(crate) physical: Option<u64>,

    /// Virtual address of the region, instead of those that a placement may choose
    #[arg(long, value_name = "ADDRESS", value_parser = parse_size, conflicts_with = "placement")]
    pub(crate) hva: Option<u64>,

    /// How to choose addresses [default: all placements]
    #[arg(long)]
    pub(crate) placement: Option<Placement>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Arguments, Debug)]
#[command(mut_arg("columns", |own| own.default_value("device,size,bar,driver,group,numa,name")))]
pub(crate) struct ListArgs {
    /// Also list devices with smaller BARs or none
    #[arg(short, long)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) table: TableArgs<ListColumn>,

    /// Print JSON, always with all fields
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) metrics: MetricsArgs,

    #[command(flatten)]
    pub(crate) features: FeaturesArgs,
}

#[derive(Arguments, Debug)]
pub(crate) struct ShowArgs {
    /// The device, in any form that map accepts
    #[arg(value_name = "DEV")]
    pub(crate) device: String,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Arguments, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

#[derive(Arguments, Debug)]
pub(crate) struct ManArgs {
    /// A command, such as map
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Option<String>,

    /// Write all pages to this folder, for packages
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub(crate) output: Option<PathBuf>,
}

/// Machines by the leaf sizes of their page tables.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Sizes {
    /// 4 KiB, 2 MiB, 1 GiB
    #[value(name = "x86-64")]
    X86_64,
    /// 4 KiB, 2 MiB
    #[value(name = "arm64-4k")]
    Arm64With4K,
    /// 16 KiB, 32 MiB
    #[value(name = "arm64-16k")]
    Arm64With16K,
    /// 64 KiB, 512 MiB
    #[value(name = "arm64-64k")]
    Arm64With64K,
}

impl From<Sizes> for LeafSizes {
    fn from(sizes: Sizes) -> Self {
        match sizes {
            Sizes::X86_64 => Self::X86_64,
            Sizes::Arm64With4K => Self::ARM64_4K,
            Sizes::Arm64With16K => Self::ARM64_16K,
            Sizes::Arm64With64K => Self::ARM64_64K,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }
}
