//! A process that others inspect: `hugebar inspect` must not change its leaves, while reading smaps
//! removes the 1 GiB ones.

use std::fs;
use std::process::{self, Command};

use anyhow::{Result, ensure};
use hugebar::pci::Address;
use hugebar::plan::Placement;
use hugebar::vfio::Device;

use crate::bar::Bar;
use crate::tables::{DUMP, device_rows};

pub(crate) fn run(address: Address) -> Result<()> {
    let mut bar = Bar::of(Device::open(address)?)?;
    let mapping = bar.map(&bar.plan(&[], Placement::Congruent)?)?;
    bar.check(&mapping)?;
    let before = device_leaves()?;
    ensure!(
        before.iter().any(|row| row.ends_with("pud")),
        "1 GiB leaves: {before:#?}"
    );

    let pid = process::id().to_string();
    let device = address.to_string();
    for arguments in [
        vec!["inspect"],
        vec!["inspect", &pid],
        vec!["inspect", &device],
        vec!["doctor", &device],
    ] {
        let output = Command::new("hugebar").args(&arguments).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        // The doctor's exit status shows that it found our open device.
        ensure!(
            output.status.code() == Some(i32::from(arguments[0] == "doctor")),
            "{arguments:?}: {text}"
        );
        ensure!(text.contains(&device), "{arguments:?}: {text}");
        ensure!(
            device_leaves()? == before,
            "{arguments:?} has changed the page tables"
        );
    }

    // It warns about this before it does so.
    let output = Command::new("hugebar")
        .args(["inspect", &pid, "--smaps"])
        .output()?;
    let warning = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && warning.contains("1 GiB leaves"),
        "{warning}"
    );
    ensure!(
        device_leaves()? != before,
        "reading smaps takes 1 GiB leaves away"
    );
    Ok(())
}

/// The rows of this process's own page tables that map device memory.
fn device_leaves() -> Result<Vec<String>> {
    let dump = fs::read_to_string(DUMP)?;
    Ok(device_rows(&dump).map(str::to_owned).collect())
}
