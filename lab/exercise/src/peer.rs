//! Peer-to-peer DMA: a BAR in an I/O address space, checked against the IOMMU's page tables, and data that one device
//! writes into another.

use std::fs;

use anyhow::{Context, Result, ensure};
use hugebar::ErrorKind;
use hugebar::bar::Bar;
use hugebar::dma::{DmaBuffer, PeerMapping};
use hugebar::layout::Area;
use hugebar::leaf::{GIB, KIB, LeafSizes, Leaves, MIB};
use hugebar::pci::Address;
use hugebar::phys::Phys;
use hugebar::seam::{fail, record};
use hugebar::vfio::{Backend, Device};

use crate::bar;
use crate::decode::switch;
use crate::edu::{Edu, PIECE, REACH};
use crate::faults::{Failed, Faults, nth};

/// The hole, like that of an emulated page.
fn hole() -> Area {
    Area::new(6 * bar::page(), bar::page())
}

/// The page sizes of an IOMMU on x86-64.
const SIZES: LeafSizes = LeafSizes::X86_64;

pub(crate) fn run(large: Address, edu: Address, memory: Address, backend: Backend) -> Result<()> {
    let large_device = bar::open(large, backend)?;
    whole_and_with_a_hole(&large_device, large)?;
    drop(large_device);
    data(edu, memory, backend)?;
    failures(large, backend)
}

/// The IOMMU's pages for a device, or `None` if the kernel does not show them.
fn iommu_pages(device: Address, from: u64, bytes: u64) -> Result<Option<Leaves>> {
    let file = format!("/sys/kernel/debug/iommu/intel/{device}/domain_translation_struct");
    let Ok(dump) = fs::read_to_string(&file) else {
        return Ok(None);
    };
    let mut pages = Leaves::none(&SIZES);
    for row in dump.lines() {
        let Some((frame, entries)) = row.split_once('|') else {
            continue;
        };
        let frame = frame.trim().trim_start_matches("0x");
        let iova = u64::from_str_radix(frame, 16)? * 4 * KIB;
        // PML5E, PML4E and so on, down to the entry that maps it.
        let size = match entries.split_ascii_whitespace().count() {
            3 => GIB,
            4 => 2 * MIB,
            _ => 4 * KIB,
        };
        if iova >= from && iova - from < bytes {
            pages.add(size, 1);
        }
    }
    Ok(Some(pages))
}

/// Maps a BAR of 4 GiB for the device itself, with the fewest pages possible.
fn whole_and_with_a_hole(device: &Device, address: Address) -> Result<()> {
    let space = device.address_space()?;
    for holes in [&[][..], &[hole()]] {
        let unmapped = device.bar(2)?;
        let unmapped = holes.iter().fold(unmapped, |bar, &hole| bar.exclude(hole));
        let best = unmapped.plan()?.best();
        let bar = unmapped.map()?;
        let mut peer = space.map_bar(device, &bar)?;
        let Phys::At(start) = bar.plan().phys() else {
            anyhow::bail!("the BAR's physical address is not known");
        };
        let large = bar::iommu_page(4 * GIB);
        let congruent = peer.iova() % large == start % large;
        ensure!(congruent, "{peer:?} of {start:#x}");
        let check = |peer: &PeerMapping, expected: Leaves| {
            let pages = iommu_pages(address, peer.iova(), bar.region().size())?;
            if let Some(pages) = pages {
                ensure!(pages == expected, "{pages} instead of {expected}");
            }
            anyhow::Ok(pages)
        };
        let seen = check(&peer, best)?;
        println!(
            "{best}, seen: {}",
            seen.map_or("-".into(), |seen| seen.to_string())
        );
        for &hole in holes {
            ensure!(peer.iova_of(hole).is_none() && peer.iova_of(Area::new(0, GIB)).is_none());
        }
        let (iova, last) = (peer.iova(), Area::new(bar.region().size() - 8, 8));
        ensure!(peer.iova_of(last) == Some(iova + last.offset), "{peer:?}");
        without_decode(device, &mut peer, last, &best, &check)?;
        peer.unmap()?;
        // Its I/O addresses are reused.
        ensure!(space.map_bar(device, &bar)?.iova() == iova);
    }
    Ok(())
}

/// An iommufd loses the BAR when memory decode is turned off, a type1 container keeps it. Either way it is mapped again
/// in the end, at the same I/O address. `part` is one that is mapped.
fn without_decode(
    device: &Device,
    peer: &mut PeerMapping,
    part: Area,
    best: &Leaves,
    check: &dyn Fn(&PeerMapping, Leaves) -> Result<Option<Leaves>>,
) -> Result<()> {
    let by_address = device.container().is_some();
    let left = match by_address {
        true => *best,
        false => Leaves::none(&SIZES),
    };
    switch(device, false)?;
    match peer.renew() {
        Ok(()) => ensure!(by_address, "mapped without memory decode"),
        Err(error) => {
            ensure!(
                !by_address && error.kind() == ErrorKind::NotMappableForDma,
                "{error}"
            );
            ensure!(peer.iova_of(part).is_none());
            check(peer, Leaves::none(&SIZES))?;
            println!("{error}");
        }
    }
    switch(device, true)?;
    // It does not come back by itself.
    check(peer, left)?;
    let iova = peer.iova();
    peer.renew()?;
    ensure!(peer.iova_of(part) == Some(iova + part.offset));
    check(peer, *best)?;
    // Decode off and on while the BAR is mapped.
    switch(device, false)?;
    switch(device, true)?;
    check(peer, left)?;
    peer.renew()?;
    check(peer, *best)?;
    Ok(())
}

/// A device writes into another device's memory, and reads it back.
fn data(edu: Address, memory: Address, backend: Backend) -> Result<()> {
    let edu = Edu::open(edu, backend)?;
    let device = match (edu.device.container(), edu.device.ioas()) {
        (Some(container), _) => Device::open_in(memory, container)?,
        (_, Some(ioas)) => Device::open_on(memory, ioas)?,
        _ => anyhow::bail!("no address space"),
    };
    let space = edu.device.address_space()?;
    let bar = device.map_bar(2)?;
    let mut peer = space.map_bar_below(&device, &bar, REACH)?;
    let buffer = DmaBuffer::below(&space, 4 * 4 * KIB, REACH)?;
    passes_through(&edu, &buffer, &bar, &peer, 3)?;
    switch(&device, false)?;
    switch(&device, true)?;
    peer.renew()?;
    passes_through(&edu, &buffer, &bar, &peer, 5)?;
    device.reset()?;
    peer.renew()?;
    passes_through(&edu, &buffer, &bar, &peer, 9)?;
    // The mapping keeps the BAR and the device.
    drop((bar, device));
    peer.unmap()?;
    Ok(())
}

fn passes_through(
    edu: &Edu,
    buffer: &DmaBuffer,
    bar: &Bar,
    peer: &PeerMapping,
    seed: u8,
) -> Result<()> {
    let pattern: Vec<u8> = (0..=250_u8)
        .map(|byte| byte ^ seed)
        .cycle()
        .take(PIECE)
        .collect();
    buffer.copy_from(0, &pattern)?;
    let place = Area::new(0x3000, PIECE as u64);
    let iova = peer.iova_of(place).context("mapped")?;
    edu.copy(buffer.iova(), iova)?;
    let mut words = vec![0_u64; PIECE / 8];
    bar.read_words(place.offset, &mut words)?;
    let written: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    ensure!(
        written == pattern,
        "what was written to the other device differs"
    );
    bar.write::<u64>(place.offset + 8, 0x0123_4567_89ab_cdef)?;
    edu.copy(iova, buffer.iova() + 2 * 4 * KIB)?;
    ensure!(buffer.read::<u64>(2 * 4 * KIB + 8)? == 0x0123_4567_89ab_cdef);
    ensure!(buffer.read::<u64>(2 * 4 * KIB)? == words[0]);
    Ok(())
}

fn journey(address: Address, backend: Backend) -> Result<()> {
    let device = bar::open(address, backend)?;
    let bar = device.bar(2)?.exclude(hole()).map()?;
    let mut peer = device.address_space()?.map_bar(&device, &bar)?;
    peer.renew()?;
    Ok(peer.unmap()?)
}

/// Whichever call fails, nothing stays mapped or open; a kernel that cannot map BARs is reported as such.
fn failures(address: Address, backend: Backend) -> Result<()> {
    // What cannot be unmapped from a container stays mapped here and keeps the device open, so this comes last.
    let spared: &[_] = match backend {
        Backend::Type1 => &["munmap", "VFIO_IOMMU_UNMAP_DMA"],
        _ => &["munmap"],
    };
    let work = || journey(address, backend);
    let check = |failed: &Failed<'_>, result: &Result<()>| {
        if let Err(error) = result {
            let kind = error.downcast_ref::<hugebar::Error>();
            let kind = kind.map(hugebar::Error::kind);
            let by_file = failed.name.contains("DMA_BUF") || failed.name.contains("MAP_FILE");
            ensure!(!by_file || kind == Some(ErrorKind::Unsupported), "{error}");
        }
        Ok(())
    };
    let faults = Faults::of(&[libc::EINVAL, libc::ENOTTY]).sparing(spared);
    let tally = faults.each(work, check)?;
    ensure!(tally.failed > tally.calls, "{} failures", tally.failed);
    in_an_open_space(address, backend)?;
    undone(address, backend)?;
    cannot_be_unmapped(address, backend)
}

/// With device, BAR and address space still open: the limit is kept, and I/O addresses and mappings of the container are free
/// again.
fn in_an_open_space(address: Address, backend: Backend) -> Result<()> {
    /// The 4 GiB below 4 GiB are no room for a BAR of that size, because address 0 is not used.
    const LIMIT: u64 = 1 << 36;
    let device = bar::open(address, backend)?;
    let bar = device.bar(2)?.exclude(hole());
    // Few pages, because unmapping walks all of them.
    let rest = bar.region().size() - MIB;
    let bar = bar.exclude(Area::new(MIB, rest)).map()?;
    let space = device.address_space()?;
    let map = || space.map_bar_below(&device, &bar, LIMIT);
    let peer = map()?;
    let (first, size) = (peer.iova(), bar.region().size());
    ensure!(first + size <= LIMIT, "{peer:?}");
    let none = space.map_bar_below(&device, &bar, size).err();
    let none = none.context("address 0 is not used")?;
    ensure!(none.kind() == ErrorKind::OutOfMemory, "{none}");
    drop(peer);
    let left = space.mappings_left()?;
    let check = |failed: &Failed<'_>, result: &hugebar::Result<()>| {
        let error = result.as_ref().err().context("it is told")?;
        ensure!(error.operation().contains(failed.name), "{error}");
        ensure!(space.mappings_left()? == left, "mappings are missing");
        ensure!(map()?.iova() == first, "I/O addresses are missing");
        Ok(())
    };
    // What cannot be unmapped has its own check.
    let spared = ["VFIO_IOMMU_UNMAP_DMA", "IOMMU_IOAS_UNMAP"];
    let faults = Faults::of(&[libc::EINVAL, libc::ENOMEM]).sparing(&spared);
    let tally = faults.each(|| map()?.unmap(), check)?;
    ensure!(tally.failed >= 6, "{} failures", tally.failed);
    Ok(())
}

/// If a later area cannot be mapped, the earlier ones are unmapped and their I/O addresses are reused.
fn undone(address: Address, backend: Backend) -> Result<()> {
    let device = bar::open(address, backend)?;
    let bar = device.bar(2)?.exclude(hole()).map()?;
    let space = device.address_space()?;
    let (peer, calls) = record(|| space.map_bar(&device, &bar));
    let iova = peer?.iova();
    let map = match backend {
        Backend::Type1 => "VFIO_IOMMU_MAP_DMA",
        _ => "IOMMU_IOAS_MAP_FILE",
    };
    let maps: Vec<_> = (0..calls.len())
        .filter(|&call| calls[call] == map)
        .collect();
    let [_, second] = maps[..] else {
        anyhow::bail!("two areas by {calls:?}");
    };
    let failed = failing(second, map, libc::ENODEV, || space.map_bar(&device, &bar))?;
    ensure!(failed.is_err());
    ensure!(space.map_bar(&device, &bar)?.iova() == iova);
    Ok(())
}

/// Makes a system call fail once.
fn failing<T>(index: usize, name: &str, errno: i32, body: impl FnOnce() -> T) -> Result<T> {
    let (result, seen) = fail(nth(index, errno), body);
    ensure!(seen.get(index) == Some(&name), "call {index} was {name}");
    Ok(result)
}

/// What cannot be unmapped keeps its I/O addresses; with a container, also its addresses in this process.
fn cannot_be_unmapped(address: Address, backend: Backend) -> Result<()> {
    let device = bar::open(address, backend)?;
    let bar = device.map_bar(2)?;
    let space = device.address_space()?;
    let peer = space.map_bar(&device, &bar)?;
    let iova = peer.iova();
    let (unmapped, calls) = record(|| peer.unmap());
    unmapped?;
    ensure!(calls.len() == 1, "{calls:?}");
    let peer = space.map_bar(&device, &bar)?;
    ensure!(peer.iova() == iova);
    let error = failing(0, calls[0], libc::EINVAL, || peer.unmap())?;
    let error = error.err().context("was not told")?;
    ensure!(error.to_string().contains("UNMAP"), "{error}");
    ensure!(bar.is_pinned() == (backend == Backend::Type1));
    Ok(())
}
