//! Counts while threads fork, and on several NUMA nodes: the additional faults are no leaves.

#![allow(unsafe_code, reason = "a child after fork")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use hugebar::layout::Area;
use hugebar::leaf::MIB;
use hugebar::mem::{Hint, MapOptions, Mapping, Window};
use hugebar::pci::Address;
use hugebar::plan::Placement;
use hugebar::vfio::{Backend, Device};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use crate::bar::Bar;

/// Counts of each kind.
const ROUNDS: u32 = 12;

pub(crate) fn run(address: Address) -> Result<()> {
    let mut bar = Bar::of(Device::open_by(address, Backend::Type1)?)?;
    let done = AtomicBool::new(false);
    let faults = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                forked();
            }
        });
        let faults = count_all(&mut bar);
        done.store(true, Ordering::Relaxed);
        faults
    })?;
    println!("{faults} faults of other causes");
    Ok(())
}

/// Forks a child that ends at once. Afterwards, the next write to any memory of this process takes a copy-on-write fault.
fn forked() {
    // SAFETY: the child only calls `_exit`.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => drop(waitpid(child, None)),
        // SAFETY: ends the process without running anything of it.
        Ok(ForkResult::Child) => unsafe { libc::_exit(0) },
        Err(_) => thread::yield_now(),
    }
}

/// Counts the faults that no leaf took.
fn count_all(bar: &mut Bar) -> Result<u64> {
    let part = [Area::new(256 * MIB, bar.region.size() - 256 * MIB)];
    let hinted = bar.region.map_options();
    let pages = MapOptions {
        hint: Hint::NoHugepage,
        ..hinted
    };
    let page = bar.facts.leaf_sizes.base();
    let mut others = 0;
    for round in 0..ROUNDS {
        for (holes, options) in [(&part[..], pages), (&part, hinted), (&[], hinted)] {
            let plan = bar.plan(holes, Placement::Congruent)?;
            let window = Window::reserve(&plan)?;
            let offset = bar.region.offset();
            let mapping = Mapping::new(&bar.device, offset, &plan, window, options)?;
            let census = bar.count(&mapping)?;
            let measured = census.measured;
            let expected = mapping.expected(&bar.facts.device_leaf_sizes());
            let right = match options.hint {
                Hint::NoHugepage => measured.count(page) * page == 256 * MIB,
                _ => measured == expected,
            };
            ensure!(
                right && census.complete,
                "round {round}: expected {expected}, measured {measured}"
            );
            // Before huge leaves there are fewer faults than leaves.
            others += census.faults.saturating_sub(measured.total());
        }
    }
    Ok(others)
}
