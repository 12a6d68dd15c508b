//! A process that has devices mapped, with or without their files open.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use hugebar::pci::Address;
use hugebar::plan::Placement;
use hugebar::vfio::Backend;

use crate::bar::{self, Bar};

/// Longer than any test: a signal ends it.
const LONG: Duration = Duration::from_secs(600);

pub(crate) fn run(addresses: &[Address], backend: Backend, close: bool) -> Result<()> {
    let mut held = Vec::new();
    for &address in addresses {
        let bar = Bar::of(bar::open(address, backend)?)?;
        let mapping = bar.map(&bar.plan(&[], Placement::Congruent)?)?;
        held.push((mapping, Some(bar)));
    }
    if close {
        held.iter_mut().for_each(|(_, bar)| *bar = None);
    }
    println!("mapped");
    io::stdout().flush()?;
    thread::sleep(LONG);
    drop(held);
    Ok(())
}
