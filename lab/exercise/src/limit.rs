//! At the limit of mappings, with no descriptor left to read `/proc`: a populated mapping in an arena
//! cannot be removed. Mapping over a part of it would make the kernel oops.

#![allow(unsafe_code, reason = "an arena is the caller's promise")]

use std::ptr::NonNull;

use anyhow::{Context, Result, ensure};
use hugebar::layout::{Area, Layout};
use hugebar::leaf::GIB;
use hugebar::mem::{Mapping, Window, leftovers};
use hugebar::pci::Address;
use hugebar::plan::{Placement, Plan};
use hugebar::vfio::{Backend, Device};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::param::page_size;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bar::{self, Bar};

pub(crate) fn run(address: Address) -> Result<()> {
    let mut bar = Bar::of(Device::open_by(address, Backend::Type1)?)?;
    let whole = bar.plan(&[], Placement::Congruent)?;
    let page = bar::page();
    // It would be mapped over the leaf of the first GiB, from its second page on.
    let holed = bar.plan(&[Area::new(0, page)], Placement::Congruent)?;
    let room = Plan::new(
        &Layout::whole(12 * GIB, whole.layout().page())?,
        whole.phys(),
        whole.sizes(),
        Placement::Congruent,
    )?;
    let arena = Window::reserve(&room)?;
    let (base, len): (NonNull<u8>, usize) = arena.blocks().next().context("one block")?;
    // SAFETY: the arena is reserved, ours, unused, and outlives the windows and their mappings.
    let window = |plan| unsafe { Window::within(plan, base, len) };

    let mapping = bar.map_in(&whole, window(&whole)?)?;
    let first = mapping.areas()[0].address();
    bar.check(&mapping)?;
    let filler = Filler::new();
    let before = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..before
    };
    setrlimit(Resource::Nofile, none)?;
    drop(mapping);
    let left = leftovers().len();
    drop(filler);
    let beside = bar.map_in(&holed, window(&holed)?)?;
    bar.populate.populate(&beside.span(page, GIB)?)?;
    setrlimit(Resource::Nofile, before)?;

    ensure!(left == 1, "{left} left behind");
    ensure!(beside.areas()[0].address() >= first + 4 * GIB, "{beside}");
    drop(beside);

    // Now that `/proc` can be read, it is removed.
    ensure!(leftovers().is_empty(), "{:?}", leftovers());
    let again: Mapping = bar.map_in(&holed, window(&holed)?)?;
    ensure!(again.areas()[0].address() == first + page, "{again}");
    bar.check(&again)?;
    let hole = format!("{first:x}-");
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mapped = |line: &str| line.starts_with(&hole) && line.contains("vfio");
    ensure!(!maps.lines().any(mapped), "the hole is the device");
    Ok(())
}

/// As many mappings as the kernel allows.
struct Filler(Vec<NonNull<u8>>);

impl Filler {
    fn new() -> Self {
        let mut pages = Vec::with_capacity(1 << 17);
        while pages.len() < pages.capacity() {
            // The kernel does not merge neighbours of another kind.
            let access = match pages.len() % 2 {
                0 => ProtFlags::READ,
                _ => ProtFlags::WRITE,
            };
            // SAFETY: the kernel chooses free addresses.
            let page = unsafe {
                mmap_anonymous(std::ptr::null_mut(), page_size(), access, MapFlags::PRIVATE)
            };
            match page.ok().and_then(|page| NonNull::new(page.cast())) {
                Some(page) => pages.push(page),
                None => break,
            }
        }
        Self(pages)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        for page in &self.0 {
            // SAFETY: an unused page of ours.
            let _ = unsafe { munmap(page.as_ptr().cast(), page_size()) };
        }
    }
}
