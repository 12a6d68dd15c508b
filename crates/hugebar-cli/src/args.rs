//! The command line: defines arguments, help and usage errors.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args as Arguments, Parser, Subcommand, ValueEnum};

use hugebar::layout::Area;
use hugebar::mem;
use hugebar::plan;
use hugebar::verdict::Requirement;

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
            Command::Doctor(doctor) => doctor.json,
            Command::Inspect(inspect) => inspect.json,
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
    Map(MapArgs),
    /// Show the device mappings of other processes, with the leaves that they can have
    ///
    /// Shows whether a virtual machine monitor or driver has the best possible mapping. Reads nothing
    /// that disturbs the process. Root sees all processes.
    Inspect(InspectArgs),
    /// Check everything between firmware and mapping, and suggest remedies
    ///
    /// Opens no device. Without DEV it checks only the host. Exits with 1 if something has to be
    /// fixed first.
    Doctor(DoctorArgs),
    /// Start a program that does not use hugebar, such as QEMU, and give its BARs large pages
    ///
    /// Replaces its mmap by a preloaded library, which places mappings of VFIO devices so that they can have as few
    /// leaves as possible, and hints them. Everything else stays as it is. The exit status is the program's.
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

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Arguments, Debug)]
pub(crate) struct DoctorArgs {
    /// The device, in any form that map accepts [default: only the host]
    #[arg(value_name = "DEV")]
    pub(crate) device: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Arguments, Debug)]
pub(crate) struct RunArgs {
    /// Leave PR_SET_THP_DISABLE as it is, which limits mappings to base pages
    #[arg(long)]
    pub(crate) keep_thp: bool,

    /// Report each mapping of a device as a line of JSON: to a file, or to an open descriptor (a number)
    #[arg(long, value_name = "FILE|FD", value_parser = parse_destination)]
    pub(crate) report: Option<Destination>,

    /// The program and its arguments
    #[arg(
        value_name = "PROGRAM",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<OsString>,
}

/// Where `run` reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    File(PathBuf),
    Descriptor(u32),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Placement {
    /// One window for the whole BAR, congruent with its physical addresses: the fewest leaves
    Congruent,
    /// Each area at a multiple of the largest power of two in its size, up to 1 GiB: QEMU's rule
    SizeAligned,
    /// Wherever mmap puts it, as in most programs
    Plain,
}

impl From<Placement> for plan::Placement {
    fn from(placement: Placement) -> Self {
        match placement {
            Placement::Congruent => Self::Congruent,
            Placement::SizeAligned => Self::SizeAligned,
            Placement::Plain => Self::Plain,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Hint {
    /// MADV_HUGEPAGE for congruent, none for the others
    Auto,
    /// MADV_HUGEPAGE
    On,
    /// None
    Off,
    /// MADV_NOHUGEPAGE: base pages only, for comparison
    #[value(alias = "refuse")]
    NoHugepage,
}

impl From<Hint> for mem::Hint {
    fn from(hint: Hint) -> Self {
        match hint {
            Hint::Auto => Self::Auto,
            Hint::On => Self::On,
            Hint::Off => Self::Off,
            Hint::NoHugepage => Self::NoHugepage,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The first of type1 and iommufd that this host has
    Auto,
    /// The device's IOMMU group and a container: /dev/vfio/GROUP, /dev/vfio/vfio
    Type1,
    /// The device's own node and an iommufd: /dev/vfio/devices/vfioN, /dev/iommu
    Iommufd,
    /// Without an IOMMU, where the administrator allows it: the device can reach all memory
    Noiommu,
}

/// How much may be populated in base pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<u64>);

/// `4096`, `0x1000`, `24K`, `2M`, `1GiB`, `4T`: bytes, in binary units.
fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write 4096, 0x1000, 24K, 2M or 1G");
    if let Some(digits) = text.strip_prefix("0x") {
        let valid = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(digits, 16).ok().filter(|_| valid);
        return number.ok_or_else(wrong);
    }
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.to_ascii_lowercase();
    let letter = unit.strip_suffix("ib").or(unit.strip_suffix('b'));
    let shift = match letter.unwrap_or(&unit) {
        "" if !unit.starts_with('i') => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

fn parse_bar(text: &str) -> Result<u32, String> {
    let bar = text.parse().ok().filter(|bar| *bar <= 5);
    bar.ok_or_else(|| format!("{text:?} is not a BAR; BARs are 0 to 5"))
}

fn parse_destination(text: &str) -> Result<Destination, String> {
    if text.is_empty() {
        return Err("an empty name is not a file".to_owned());
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Ok(Destination::Descriptor(number)),
        _ => Ok(Destination::File(text.into())),
    }
}

fn parse_area(text: &str) -> Result<Area, String> {
    let (offset, size) = text
        .split_once('+')
        .ok_or_else(|| format!("{text:?} is not OFFSET+SIZE; write 0x6000+0x1000 or 24K+4K"))?;
    Ok(Area::new(parse_size(offset)?, parse_size(size)?))
}

fn parse_requirement(text: &str) -> Result<Requirement, String> {
    match text {
        "optimal" => Ok(Requirement::Optimal),
        size => parse_size(size)
            .map(Requirement::Size)
            .map_err(|wrong| format!("{wrong}, or \"optimal\"")),
    }
}

fn parse_limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        size => parse_size(size)
            .map(|size| Limit(Some(size)))
            .map_err(|wrong| format!("{wrong}, or \"none\"")),
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

    #[test]
    fn sizes() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("0x6000", 0x6000),
            ("24K", 24 << 10),
            ("2MiB", 2 << 20),
            ("1g", 1 << 30),
            ("3TB", 3 << 40),
            ("7b", 7),
        ] {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in [
            "",
            "G",
            "0x",
            "0x+1",
            "1.5G",
            "-1",
            "+1",
            "4Q",
            "1ib",
            "16777216T",
            "1 G",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_program_keeps_its_own_options() {
        let words = [
            "hugebar", "run", "--report", "7", "qemu", "--report", "-v", "x",
        ];
        let parsed = Args::try_parse_from(words).unwrap();
        let Command::Run(run) = &parsed.command else {
            panic!("{parsed:?}");
        };
        assert_eq!(run.command, ["qemu", "--report", "-v", "x"]);
        assert_eq!(run.report, Some(Destination::Descriptor(7)));
        assert!(!run.keep_thp && !parsed.verbose);
        let words = ["hugebar", "run", "--report", "./7", "--", "-odd-"];
        let parsed = Args::try_parse_from(words).unwrap();
        let Command::Run(run) = &parsed.command else {
            panic!("{parsed:?}");
        };
        assert_eq!(run.command, ["-odd-"]);
        assert_eq!(run.report, Some(Destination::File("./7".into())));
        assert!(Args::try_parse_from(["hugebar", "run"]).is_err());
    }

    #[test]
    fn areas_and_requirements() {
        assert_eq!(parse_area("0x6000+4K"), Ok(Area::new(0x6000, 0x1000)));
        for text in [
            "",
            "+",
            "0x6000",
            "0x6000+",
            "+0x1000",
            "1+2+3",
            "0x6000-0x7000",
        ] {
            assert!(parse_area(text).is_err(), "{text}");
        }
        assert_eq!(parse_requirement("optimal"), Ok(Requirement::Optimal));
        assert_eq!(parse_requirement("1G"), Ok(Requirement::Size(1 << 30)));
        assert!(parse_requirement("best").is_err());
        assert_eq!(parse_bar("5"), Ok(5));
        for text in ["6", "-1", "", "0000:00:10.0"] {
            assert!(parse_bar(text).is_err(), "{text}");
        }
        assert_eq!(parse_limit("none"), Ok(Limit(None)));
    }
}
