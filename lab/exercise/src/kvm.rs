//! KVM: counts by its pre-faults, and compares its own leaves with the predicted ones.

#![allow(unsafe_code, reason = "a timer and its signal")]

use std::cell::RefCell;
use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use hugebar::ErrorKind;
use hugebar::census::{Census, CensusOptions, census};
use hugebar::guest::{Fit, Table};
use hugebar::kvm::Guest;
use hugebar::layout::Area;
use hugebar::leaf::{GIB, KIB, Leaves, MIB};
use hugebar::mem::{Mapping, Window};
use hugebar::pci::{Address, Command};
use hugebar::plan::{Placement, Plan};
use hugebar::populate::Prefault;
use hugebar::seam::record;
use hugebar::vfio::Device;

use crate::bar::Bar;
use crate::faults::Faults;
use crate::state::State;

/// A page in the middle of the first leaf, like an MSI-X table.
const HOLE: Area = Area::new(24 * KIB, 4 * KIB);

/// A guest address that is a multiple of every leaf.
const FREE: u64 = 64 * GIB;

pub(crate) fn run(address: Address) -> Result<()> {
    let bar = Bar::of(Device::open(address)?)?;
    counts(&bar)?;
    guest_addresses(&bar)?;
    slots_are_all_or_none(&bar)?;
    handed_over(&bar)?;
    without_decode(&bar)?;
    interrupted(&bar)?;
    failures(&bar)?;
    // A mapping lives as long as its guest; afterwards the device is free.
    let mut guest = Guest::new()?;
    let mapping = Arc::new(bar.map(&bar.plan(&[], Placement::Congruent)?)?);
    guest.add(&mapping, &[], FREE)?;
    drop(mapping);
    guest.prefault(FREE, 4 * GIB)?;
    drop(bar);
    drop(guest);
    Device::open(address).context("the device is free again")?;
    Ok(())
}

fn count(bar: &Bar, mapping: &Mapping, populate: &mut Prefault) -> hugebar::Result<Census> {
    let progress = &mut |_| ControlFlow::Continue(());
    let options = CensusOptions {
        limit: None,
        progress,
    };
    census(mapping, &bar.facts, populate, options)
}

/// A census by KVM repeatedly finds the expected leaves, however the BAR is mapped.
fn counts(bar: &Bar) -> Result<()> {
    let mut populate = Prefault::new()?;
    let small = [Area::new(64 * MIB + 8 * KIB, 4 * GIB - 64 * MIB - 8 * KIB)];
    let plans = [
        ("whole", bar.plan(&[], Placement::Congruent)?),
        ("hole", bar.plan(&[HOLE], Placement::Congruent)?),
        ("size-aligned", bar.plan(&small, Placement::SizeAligned)?),
        ("plain", bar.plan(&small, Placement::Plain)?),
    ];
    for (name, plan) in &plans {
        let mut window = Window::reserve(plan)?;
        for _ in 0..2 {
            let mapping = bar.map_in(plan, window)?;
            let expected = mapping.expected(&bar.facts.device_leaf_sizes());
            let census = count(bar, &mapping, &mut populate)?;
            ensure!(
                census.complete && census.measured == expected,
                "{name}: expected {expected}, measured {}",
                census.measured
            );
            ensure!(census.faults == expected.total(), "{name}: {census:?}");
            println!("census {name}: {}", census.measured);
            let again = count(bar, &mapping, &mut populate);
            ensure!(again.is_err_and(|error| error.kind() == ErrorKind::AlreadyPopulated));
            window = mapping.into_window()?;
        }
    }
    Ok(())
}

/// KVM's count for a mapping at a guest address, which must match the prediction.
fn second_stage(bar: &Bar, plan: &Plan, exclude: &[Area], address: u64) -> Result<Leaves> {
    let mapping = Arc::new(bar.map(plan)?);
    let mut guest = Guest::new()?;
    ensure!(guest.leaves()?.total() == 0, "nothing is there yet");
    let slots = guest.add(&mapping, exclude, address)?;
    let fit = Fit::new(&slots, plan.phys(), &bar.facts.device_leaf_sizes());
    let foretold = fit.leaves(Table::SecondStage, address);
    for slot in &slots {
        guest.prefault(address + slot.area.offset, slot.area.size)?;
    }
    let counted = guest.leaves()?;
    println!("guest address {address:#x}, {exclude:?}: {counted}");
    ensure!(
        counted == foretold,
        "predicted {foretold}, counted {counted}"
    );
    Ok(counted)
}

fn guest_addresses(bar: &Bar) -> Result<()> {
    let counts = |leaves: Leaves| [GIB, 2 * MIB, 4 * KIB].map(|size| leaves.count(size));
    let whole = bar.plan(&[], Placement::Congruent)?;
    let congruent = second_stage(bar, &whole, &[], FREE)?;
    ensure!(counts(congruent) == [4, 0, 0]);
    let off = second_stage(bar, &whole, &[], FREE + 2 * MIB)?;
    ensure!(counts(off) == [0, 2048, 0]);
    let carved = bar.plan(&[HOLE], Placement::Congruent)?;
    ensure!(counts(second_stage(bar, &carved, &[], FREE)?) == [3, 511, 511]);
    // The process has 1 GiB leaves, but a slot ends where the monitor emulates something.
    let emulated = second_stage(bar, &whole, &[HOLE], FREE)?;
    ensure!(counts(emulated) == [3, 511, 511]);
    second_stage(bar, &whole, &[HOLE], FREE + 6 * MIB)?;
    second_stage(
        bar,
        &whole,
        &[Area::new(GIB + 5 * MIB, 3 * GIB - 5 * MIB)],
        FREE,
    )?;
    // Base pages only: 64 MiB of them are enough.
    let rest = Area::new(64 * MIB, 4 * GIB - 64 * MIB);
    let pages = second_stage(bar, &whole, &[rest], FREE + 4 * KIB)?;
    ensure!(counts(pages) == [0, 0, 16_384]);
    let small = bar.plan(&[rest], Placement::Plain)?;
    second_stage(bar, &small, &[], FREE)?;
    Ok(())
}

fn slots_are_all_or_none(bar: &Bar) -> Result<()> {
    let mapping = Arc::new(bar.map(&bar.plan(&[HOLE], Placement::Congruent)?)?);
    let mut guest = Guest::new()?;
    guest.add(&mapping, &[], FREE)?;
    // The first slot is free, the second one is not.
    let error = guest.add(&mapping, &[], FREE - 16 * KIB).err();
    let error = error.context("the slots overlap")?;
    ensure!(error.kind() == ErrorKind::Busy, "{error}");
    let error = guest.prefault(FREE - 16 * KIB, 4 * KIB).err();
    let error = error.context("no slot is left")?;
    ensure!(error.kind() == ErrorKind::InvalidInput, "{error}");
    for address in [FREE + 8 * GIB + 1, u64::MAX - 4095] {
        let error = guest.add(&mapping, &[], address).err();
        let error = error.context("no such guest address")?;
        ensure!(error.kind() == ErrorKind::InvalidInput, "{error}");
    }
    guest.add(&mapping, &[], FREE + 8 * GIB)?;
    Ok(())
}

fn handed_over(bar: &Bar) -> Result<()> {
    let open = |path| File::options().read(true).write(true).open(path);
    let mut populate = Prefault::from_fd(open("/dev/kvm")?.into())?;
    let mapping = bar.map(&bar.plan(&[], Placement::Congruent)?)?;
    ensure!(count(bar, &mapping, &mut populate)?.faults == 4);
    ensure!(Prefault::from_fd(open("/dev/null")?.into()).is_err());
    Ok(())
}

/// While memory decode is off, populating fails with a clear error; afterwards it works.
fn without_decode(bar: &Bar) -> Result<()> {
    let config = bar.device.config()?;
    let command = config.command()?;
    config.set_command(command - Command::MEMORY)?;
    let plan = bar.plan(&[], Placement::Congruent)?;
    let mapping = bar.map(&plan)?;
    let mut populate = Prefault::new()?;
    let refused = count(bar, &mapping, &mut populate);
    config.set_command(command)?;
    let error = refused.err().context("memory decode is off")?;
    ensure!(error.kind() == ErrorKind::NotMappableForDma, "{error}");
    println!("{error}");
    ensure!(count(bar, &mapping, &mut populate)?.faults == 4);
    Ok(())
}

static ALARMS: AtomicU64 = AtomicU64::new(0);

extern "C" fn alarm(_: libc::c_int) {
    ALARMS.fetch_add(1, Ordering::Relaxed);
}

/// Sends SIGALRM at this interval in microseconds; 0 stops it.
fn set_alarm(microseconds: i64) {
    let every = libc::timeval {
        tv_sec: 0,
        tv_usec: microseconds,
    };
    let timer = libc::itimerval {
        it_interval: every,
        it_value: every,
    };
    // SAFETY: the call only reads the timer, and does not return the old one.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
}

/// Signals interrupt KVM's call, which is repeated until everything is done.
fn interrupted(bar: &Bar) -> Result<()> {
    let handler: extern "C" fn(libc::c_int) = alarm;
    // SAFETY: the handler only increments an atomic number.
    unsafe { libc::signal(libc::SIGALRM, handler as libc::sighandler_t) };
    let rest = Area::new(256 * MIB, 4 * GIB - 256 * MIB);
    let plan = bar.plan(&[], Placement::Congruent)?;
    set_alarm(2000);
    let calls = record(|| second_stage(bar, &plan, &[rest], FREE + 4 * KIB));
    set_alarm(0);
    let (leaves, calls) = calls;
    ensure!(leaves?.total() == 65_536);
    let calls = calls.iter().filter(|name| **name == "KVM_PRE_FAULT_MEMORY");
    let (calls, alarms) = (calls.count(), ALARMS.load(Ordering::Relaxed));
    println!("{alarms} signals, {calls} calls for 65,536 pages");
    ensure!(alarms > 1 && calls > 1, "it was not interrupted");
    Ok(())
}

/// Each system call of a count fails once: nothing is left behind, and the next count is right.
fn failures(bar: &Bar) -> Result<()> {
    let holes = [Area::new(GIB + 4 * KIB, 3 * GIB - 4 * KIB)];
    let plan = bar.plan(&holes, Placement::Congruent)?;
    let journey = |populate: &mut Prefault| -> hugebar::Result<Census> {
        let mapping = bar.map(&plan)?;
        let mut guest = Guest::new()?;
        let census = count(bar, &mapping, populate)?;
        guest.add(&Arc::new(mapping), &[HOLE], FREE)?;
        guest.leaves()?;
        Ok(census)
    };
    let before = State::observe()?;
    let populate = RefCell::new(Prefault::new()?);
    let expected = |populate: &mut Prefault| {
        let census = journey(populate)?;
        ensure!(census.measured.total() == 2, "{census:?}");
        Ok(())
    };
    let tally = Faults::of(&[libc::EINTR, libc::ENOMEM])
        .sparing(&["munmap"])
        .each(
            || journey(&mut populate.borrow_mut()),
            |_, _| expected(&mut populate.borrow_mut()),
        )?;
    drop(populate);
    before.unchanged()?;
    ensure!(tally.failed > tally.calls / 2, "most failures are errors");
    Ok(())
}
