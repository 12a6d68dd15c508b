//! `cargo xtask demo`: the BARs of a device, mapped plain, size-aligned and congruent, side by side.

use std::process::{Command as Process, ExitCode};

use anyhow::{Context, Result, bail};
use hugebar_lab::cache::Cache;
use hugebar_lab::{Arch, Command, Report, Spec, Thp, install, kernel};

use crate::shared::{Consent, guest_failed};
use crate::table::Table;

/// An optimised build, so that the times are those of the kernel.
const PROFILE: &str = "release";

const PLACEMENTS: [&str; 3] = ["plain", "size-aligned", "congruent"];

/// A page that a driver would leave out of its mapping, for example for an MSI-X table.
const HOLE: &str = "0x6000+0x1000";

/// Map a device's BARs plain, size-aligned and congruent, and show leaves and times side by side.
///
/// Boots a current kernel in a virtual machine with a device of 4 GiB and one of 256 GiB; no hardware is needed. QEMU is installed if it is missing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// 6.1, 6.12, 6.18, newest, lab, an exact version, host, or the path of an image
    #[arg(
        long,
        default_value = "newest",
        value_name = "KERNEL",
        conflicts_with = "device"
    )]
    kernel: String,
    /// Map this device of this host instead, which must already be bound to vfio-pci
    #[arg(long, value_name = "DEV")]
    device: Option<String>,
    #[command(flatten)]
    consent: Consent,
}

/// Runs the demo.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match &args.device {
        Some(device) => on_this_host(device),
        None => {
            install::ensure_all(args.consent.yes)?;
            kernel::prepare(
                &Cache::open()?,
                &args.kernel,
                Arch::X86_64,
                args.consent.yes,
            )?;
            in_the_lab(&args.kernel)
        }
    }
}

/// One mapping of the demo.
struct Mapping {
    address: &'static str,
    placement: &'static str,
    hole: Option<&'static str>,
}

fn mappings() -> Vec<Mapping> {
    let mut all = Vec::new();
    for hole in [None, Some(HOLE)] {
        all.extend(PLACEMENTS.map(|placement| Mapping {
            address: "0000:00:10.0",
            placement,
            hole,
        }));
    }
    all.push(Mapping {
        address: "0000:00:11.0",
        placement: "congruent",
        hole: None,
    });
    all
}

impl Mapping {
    fn command(&self) -> Command {
        let mut words = vec!["hugebar", "map", self.address, "--bar", "2", "--json"];
        words.extend(["--placement", self.placement]);
        if let Some(hole) = self.hole {
            words.extend(["--exclude", hole]);
        }
        Command::new(words)
    }

    fn remark(&self) -> String {
        self.hole
            .map_or(String::new(), |hole| format!(", hole {hole}"))
    }
}

fn in_the_lab(kernel: &str) -> Result<ExitCode> {
    eprintln!(
        "Booting a kernel in a virtual machine and mapping its devices: about half a minute."
    );
    let mappings = mappings();
    let commands: Vec<_> = mappings.iter().map(Mapping::command).collect();
    let report = Spec::new(kernel)
        .profile(PROFILE)
        .thp(Thp::Madvise)
        .device("pci-testdev,membar=4G")
        .device("pci-testdev,membar=256G")
        .run(&commands);
    let report = match report {
        Ok(report) => report,
        Err(error) => return guest_failed(error),
    };
    println!("{}", heading(&report));
    let mut table = Table::new();
    for (mapping, output) in mappings.iter().zip(&report.commands) {
        if !output.success() {
            bail!(
                "hugebar failed in the guest ({}): {}{}",
                output.code(),
                output.stderr(),
                output.stdout()
            );
        }
        table.add(&output.stdout(), &mapping.remark())?;
    }
    print!("\n{}", table.render());
    Ok(ExitCode::SUCCESS)
}

fn heading(report: &Report) -> String {
    let cpu = match report.accelerator {
        "KVM" => "KVM",
        _ => "emulated CPU (QEMU TCG)",
    };
    format!(
        "Linux {}, {cpu}, transparent huge pages: madvise. Leaves are page-table entries, by size; fewer are better.",
        report.release
    )
}

fn on_this_host(device: &str) -> Result<ExitCode> {
    let hugebar = hugebar_lab::hugebar(PROFILE)?;
    let mut table = Table::new();
    for placement in PLACEMENTS {
        let output = Process::new(&hugebar)
            .args(["map", device, "--json", "--placement", placement])
            .output()
            .with_context(|| format!("cannot run {}", hugebar.display()))?;
        if !output.status.success() {
            bail!(
                "hugebar map {device} failed ({}): {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        table.add(&String::from_utf8_lossy(&output.stdout), "")?;
    }
    println!("{device} of this host. Leaves are page-table entries, by size; fewer are better.");
    print!("\n{}", table.render());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placement_is_shown_with_and_without_a_hole() {
        let commands: Vec<_> = mappings()
            .iter()
            .map(|mapping| mapping.command().argv.join(" "))
            .collect();
        assert_eq!(commands.len(), 7);
        for (index, placement) in PLACEMENTS.iter().enumerate() {
            assert!(commands[index].contains(placement), "{commands:?}");
            assert!(!commands[index].contains("--exclude"), "{commands:?}");
            assert_eq!(
                commands[index + 3],
                format!("{} --exclude {HOLE}", commands[index])
            );
        }
        assert!(commands[6].contains("0000:00:11.0"), "{commands:?}");
    }
}
