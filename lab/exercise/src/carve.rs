//! Carves, drops and re-makes populated mappings: the kernel oopses if a 1 GiB leaf is split, so
//! a careless library would fail at each of these steps.

#![allow(unsafe_code, reason = "an arena is the caller's promise")]

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::NonNull;

use anyhow::{Context, Result, ensure};
use hugebar::ErrorKind;
use hugebar::layout::Area;
use hugebar::leaf::{GIB, MIB};
use hugebar::mem::{Hint, Mapping, Window};
use hugebar::pci::Address;
use hugebar::plan::{Placement, Plan};
use hugebar::vfio::Backend;

use crate::bar::{self, Bar};

pub(crate) fn run(address: Address, backend: Backend) -> Result<()> {
    let mut bar = Bar::of(bar::open(address, backend)?)?;
    // If devices reach all memory, there are no addresses to map at.
    let refused = bar.device.address_space().err().map(|error| error.kind());
    let expected = (backend == Backend::NoIommu).then_some(ErrorKind::Unsupported);
    ensure!(refused == expected, "{refused:?}");
    holes_come_and_go(&mut bar)?;
    a_second_count_is_refused(&mut bar)?;
    pages_at_the_ends_are_no_leaf(&mut bar)?;
    every_placement_and_hint(&mut bar)?;
    in_an_arena(&mut bar)?;
    side_by_side(&mut bar)?;
    let mapping = children_do_not_inherit(&mut bar)?;
    drop(bar);
    // The mapping outlives its device, and is dropped last.
    ensure!(!mapping.areas().is_empty());
    drop(mapping);
    bar::open(address, backend).context("the device is free again")?;
    Ok(())
}

/// A hole of one page near the start.
fn near_the_start() -> Area {
    let page = bar::page();
    Area::new(6 * page, page)
}

/// Holes with edges that are not 2 MiB-aligned, at the ends, in the middle, across a GiB.
fn hole_lists() -> Vec<Vec<Area>> {
    let page = bar::page();
    vec![
        vec![near_the_start()],
        vec![],
        vec![Area::new(0, page), Area::new(GIB + 5 * page, page)],
        vec![Area::new(2 * GIB - page, 2 * page)],
        vec![Area::new(3 * GIB, GIB)],
        vec![Area::new(GIB, 2 * MIB)],
        vec![],
    ]
}

fn holes_come_and_go(bar: &mut Bar) -> Result<()> {
    let whole = bar.plan(&[], Placement::Congruent)?;
    let mut mapping = bar.map(&whole)?;
    let base = mapping.as_ptr().context("one window")?;
    bar.check(&mapping)?;
    for holes in hole_lists() {
        let plan = bar.plan(&holes, Placement::Congruent)?;
        let window = mapping.into_window()?;
        mapping = bar.map_in(&plan, window)?;
        ensure!(
            mapping.as_ptr() == Some(base),
            "the region stays where it is"
        );
        let census = bar.check(&mapping)?;
        println!("holes {holes:?}: {}", census.measured);
    }
    // Also drop a half-populated mapping.
    let window = mapping.into_window()?;
    let mapping = bar.map_in(&whole, window)?;
    bar.populate.populate(&mapping.span(GIB, bar::page())?)?;
    drop(mapping);
    Ok(())
}

fn a_second_count_is_refused(bar: &mut Bar) -> Result<()> {
    let mapping = bar.map(&bar.plan(&[], Placement::Congruent)?)?;
    bar.check(&mapping)?;
    let error = bar
        .count(&mapping)
        .err()
        .context("it was populated before")?;
    ensure!(error.kind() == ErrorKind::AlreadyPopulated, "{error}");
    let again = bar.map_in(mapping.plan(), Window::reserve(mapping.plan())?)?;
    bar.check(&again)?;
    Ok(())
}

/// With base pages only, after reading the last word of each GiB: a missing fault there does not prove a leaf.
fn pages_at_the_ends_are_no_leaf(bar: &mut Bar) -> Result<()> {
    let plan = bar.plan(&[], Placement::Congruent)?;
    let options = hugebar::mem::MapOptions {
        hint: Hint::NoHugepage,
        ..bar.region.map_options()
    };
    for ends in [&[GIB - 4][..], &[0, GIB - 4], &[0, GIB / 2, GIB - 4]] {
        let window = Window::reserve(&plan)?;
        let mapping = Mapping::new(&bar.device, bar.region.offset(), &plan, window, options)?;
        for gib in 0..bar.region.size() / GIB {
            for end in ends {
                mapping.read_u32(gib * GIB + end)?;
            }
        }
        let counted = bar.count(&mapping);
        if let Ok(census) = &counted {
            anyhow::bail!("touched at {ends:x?} of each GiB, but counted: {census:?}");
        }
        let error = counted.err().context("it was touched before")?;
        ensure!(error.kind() == ErrorKind::AlreadyPopulated, "{error}");
    }
    Ok(())
}

fn every_placement_and_hint(bar: &mut Bar) -> Result<()> {
    // Large enough for leaves of each size, small enough to avoid a million pages.
    let holes = [
        Area::new(0, GIB - bar::huge() - bar::page()),
        Area::new(2 * GIB + bar::page(), 2 * GIB - bar::page()),
    ];
    for placement in [
        Placement::Congruent,
        Placement::SizeAligned,
        Placement::Plain,
    ] {
        for hint in [Hint::Auto, Hint::On, Hint::Off] {
            let plan = bar.plan(&holes, placement)?;
            let options = hugebar::mem::MapOptions {
                hint,
                ..bar.region.map_options()
            };
            let window = Window::reserve(&plan)?;
            let mapping = Mapping::new(&bar.device, bar.region.offset(), &plan, window, options)?;
            let census = bar.check(&mapping)?;
            println!("{placement}, {hint:?}: {}", census.measured);
            let window = mapping.into_window()?;
            let mapping = bar.map_in(&plan, window)?;
            bar.check(&mapping)?;
        }
    }
    Ok(())
}

fn in_an_arena(bar: &mut Bar) -> Result<()> {
    // Our own window serves as an arena: its addresses are reserved and ours.
    let plan = bar.plan(&[near_the_start()], Placement::Congruent)?;
    let room = Plan::new(
        &hugebar::layout::Layout::whole(8 * GIB, plan.layout().page())?,
        plan.phys(),
        plan.sizes(),
        Placement::Congruent,
    )?;
    let arena = Window::reserve(&room)?;
    let (base, len): (NonNull<u8>, usize) = arena.blocks().next().context("one block")?;
    for _ in 0..2 {
        // SAFETY: the arena is reserved, ours, unused, and outlives the window and its mapping.
        let window = unsafe { Window::within(&plan, base, len) }?;
        let mapping = bar.map_in(&plan, window)?;
        ensure!(mapping.areas()[0].address() == base.addr().get() as u64);
        bar.check(&mapping)?;
    }
    Ok(())
}

/// Mappings of one BAR do not disturb one another.
fn side_by_side(bar: &mut Bar) -> Result<()> {
    let plan = bar.plan(&[], Placement::Congruent)?;
    let first = bar.map(&plan)?;
    let second = bar.map(&plan)?;
    bar.check(&first)?;
    bar.check(&second)?;
    drop(first);
    let third = bar.map(&plan)?;
    bar.check(&third)?;
    Ok(())
}

/// A running child must not keep the device busy: neither by the mapping, which it does not inherit, nor by a
/// descriptor, which exec closes.
fn children_do_not_inherit(bar: &mut Bar) -> Result<Mapping> {
    let mapping = bar.map(&bar.plan(&[], Placement::Congruent)?)?;
    bar.check(&mapping)?;
    let not_mapped = || match fs::read_to_string("/proc/self/maps")?.contains("vfio") {
        true => Err(io::Error::other("the child has the mapping")),
        false => Ok(()),
    };
    let mut command = Command::new("/proc/self/exe");
    command.args(["descriptors", "vfio"]);
    // SAFETY: this process has one thread, so its child may allocate and read files.
    unsafe { command.pre_exec(not_mapped) };
    let output = command.output().context("between fork and exec")?;
    let open = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && open == "ok\n", "{output:?}");
    ensure!(fs::read_to_string("/proc/self/maps")?.contains("vfio"));
    Ok(mapping)
}
