//! `hugebar doctor --report`: all that is known, in one text for a bug report.

use std::fmt::{Display, Write};
use std::fs;

use hugebar::facts::Facts;
use hugebar::pci::{Function, Iomem};
use hugebar_host::devices;
use hugebar_host::doctor::{self, Status};
use hugebar_host::escape::Escaped;
use hugebar_host::inspect::Inspector;
use hugebar_host::kernel_log;
use hugebar_host::pci_ids::PciIds;
use hugebar_host::show;

use super::list::is_large;
use crate::args::ListColumn;
use crate::failure::Failure;
use crate::render::{self, DoctorReport, InspectReport, ListReport, ShowReport};

/// The columns of the list of devices, all but one: `size` and `bar` are in `bars`.
const COLUMNS: [ListColumn; 9] = [
    ListColumn::Device,
    ListColumn::Ids,
    ListColumn::Bars,
    ListColumn::Physical,
    ListColumn::Driver,
    ListColumn::Group,
    ListColumn::Numa,
    ListColumn::Power,
    ListColumn::Name,
];

/// Makes the text. `doctor` is what the doctor has found, on `function` if there is one; without one, all devices with large
/// BARs are shown. A part that cannot be made says so.
pub(super) fn text(
    doctor: &DoctorReport,
    function: Option<&Function>,
    facts: &Facts,
    redact: bool,
) -> Result<String, Failure> {
    let mut text = format!("# hugebar {} report\n", env!("CARGO_PKG_VERSION"));
    let mut section = |title: &str, content: Result<String, Failure>| {
        let content = content.unwrap_or_else(|failure| format!("failed: {failure}\n"));
        // A string takes everything.
        let _ = write!(text, "\n## {title}\n\n{content}");
    };
    section("kernel", Ok(kernel(facts, redact)));
    section("doctor", Ok(plain(doctor.for_a_file())));
    let ids = PciIds::read();
    let all = devices::list(&ids);
    section(
        "list --all",
        match &all {
            Ok(all) => Ok(plain(ListReport::new(all, &COLUMNS, true).for_a_file())),
            Err(error) => Ok(format!("failed: {error}\n")),
        },
    );
    let large = all.iter().flatten().filter(|own| is_large(own));
    let large: Vec<_> = large.map(|own| own.address).collect();
    let functions = match function {
        Some(function) => vec![Ok(function.clone())],
        None => large.into_iter().map(Function::at).collect(),
    };
    for function in functions {
        let shown = function.map_err(Failure::from);
        section("show", shown.and_then(|own| show(&own, facts, &ids)));
    }
    section("inspect", inspect(facts));
    section("kernel log", log());
    if redact {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        text = render::redacted(&text, host.trim())
            .map_err(|error| Failure::Usage(format!("--redact: {error}")))?;
    }
    Ok(text)
}

/// A report without colours.
fn plain(report: impl Display) -> String {
    anstream::adapter::strip_str(&report.to_string()).to_string()
}

fn kernel(facts: &Facts, redact: bool) -> String {
    let line = fs::read_to_string("/proc/cmdline");
    let line = match line {
        Ok(line) if redact => render::redacted_parameters(&line),
        Ok(line) => line.trim().to_owned(),
        Err(error) => format!("unknown: {error}"),
    };
    let version = fs::read_to_string("/proc/version").unwrap_or_default();
    // Who built it on which host is of no use.
    let version = version.split(" (").next().unwrap_or_default().to_owned();
    let thp = facts.thp.map(|policy| policy.to_string());
    let thp = thp.as_deref().unwrap_or("not built in");
    let line = Escaped(&line);
    format!(
        "{version}\ncommand line: {line}\nTHP: {thp}\nleaf sizes: {:?}\nmachine: {}\n",
        facts.leaf_sizes.as_slice(),
        std::env::consts::ARCH
    )
}

fn show(function: &Function, facts: &Facts, ids: &PciIds) -> Result<String, Failure> {
    let iomem = Iomem::read().unwrap_or_default();
    let shown = show::show(function, facts, ids, &iomem)?;
    let mut steps = doctor::device(function, facts)?;
    steps.retain(|step| step.status != Status::Ok);
    let report = ShowReport::new(&shown, facts, &steps).for_a_file();
    Ok(plain(report))
}

fn inspect(facts: &Facts) -> Result<String, Failure> {
    let inspection = Inspector::new(facts)?.all()?;
    Ok(plain(InspectReport::new(facts, &inspection).for_a_file()))
}

/// Messages on devices, BARs, IOMMU and VFIO.
fn log() -> Result<String, Failure> {
    let lines = match kernel_log::lines(is_on_devices) {
        Err(error) => return Ok(format!("not readable: {error}\n")),
        Ok(lines) => lines,
    };
    let lines = lines.iter().map(|line| format!("{}\n", Escaped(line)));
    Ok(lines.collect())
}

fn is_on_devices(line: &str) -> bool {
    let line = line.to_lowercase();
    let words = ["vfio", "dmar", "amd-vi", "iommu", "smmu", ": bar "];
    // The line of parameters is in the report already.
    words.iter().any(|word| line.contains(word)) && !line.contains("command line: ")
}
