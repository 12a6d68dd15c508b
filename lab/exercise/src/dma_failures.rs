//! Each system call of memory for DMA fails once: nothing stays mapped, and memory stays only if it cannot be unmapped.

use std::fs;

use anyhow::{Context, Result, ensure};
use hugebar::ErrorKind;
use hugebar::dma::{DmaBuffer, RawDmaMapping};
use hugebar::iommu::{AddressSpace, DmaAccess};
use hugebar::leaf::{KIB, MIB};
use hugebar::mem::{HugePage, Memory};
use hugebar::pci::Address;
use hugebar::seam::fail;
use hugebar::vfio::Backend;

use crate::bar;
use crate::dma::{buffers, size};
use crate::edu::REACH;
use crate::faults::{Failed, Faults, nth};
use crate::state;

/// Reserved pages of 2 MiB.
const PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

pub(crate) fn run(address: Address, backend: Backend) -> Result<()> {
    with_the_device(address, backend)?;
    let device = bar::open(address, backend)?;
    let space = device.address_space()?;
    fs::write(PAGES, "4")?;
    in_an_open_space(&space)?;
    fs::write(PAGES, "0")?;
    questions(&space)?;
    cannot_be_unmapped(&space)
}

fn journey(address: Address, backend: Backend) -> Result<()> {
    let device = bar::open(address, backend)?;
    device.set_bus_master(true)?;
    let space = device.address_space()?;
    let buffer = DmaBuffer::below(&space, size(), REACH)?;
    buffer.write(8, 1_u64)?;
    let memory = Memory::shared(size(), None)?;
    space.map_owned(memory, DmaAccess::Read)?;
    Ok(())
}

/// Whatever fails, nothing stays mapped, except memory that cannot be unmapped.
fn with_the_device(address: Address, backend: Backend) -> Result<()> {
    let mut stays = 0;
    let work = || journey(address, backend);
    let check = |failed: &Failed<'_>, _: &Result<()>| {
        // The memory is leaked then, and only then.
        stays += usize::from(failed.name.contains("UNMAP"));
        let left = buffers()?;
        ensure!(left == stays, "{left} of {stays}");
        Ok(())
    };
    let faults = Faults::of(&[libc::EINVAL]).sparing(&["munmap"]);
    let tally = faults.each(work, check)?;
    ensure!(tally.failed > tally.calls / 2, "{} failed", tally.failed);
    ensure!(stays == 2, "{stays} could not be unmapped");
    Ok(())
}

/// The device stays open: I/O addresses, mappings of the container and huge pages are all free again.
fn in_an_open_space(space: &AddressSpace) -> Result<()> {
    let first = DmaBuffer::new(space, size())?.iova();
    let low = DmaBuffer::below(space, size(), REACH)?.iova();
    let left = space.mappings_left()?;
    let files = state::count("memfd")?;
    each_kind(space, |failed, result| {
        ensure!(space.mappings_left()? == left, "mappings are missing");
        ensure!(state::count("memfd")? == files, "a file was left open");
        ensure!(DmaBuffer::new(space, size())?.iova() == first);
        ensure!(DmaBuffer::below(space, size(), REACH)?.iova() == low);
        let free = fs::read_to_string(PAGES.replace("nr_", "free_"))?;
        ensure!(free.trim() == "4", "free huge pages: {free}");
        match result {
            // The kernel may have no transparent huge pages.
            Ok(()) => ensure!(failed.name == "madvise", "not told"),
            Err(error) => {
                ensure!(error.errno() == Some(failed.errno), "{error}");
                ensure!(error.operation().contains(failed.name), "{error}");
                let no_memory = failed.errno == libc::ENOMEM;
                ensure!(
                    !no_memory || error.kind() == ErrorKind::OutOfMemory,
                    "{error}"
                );
            }
        }
        Ok(())
    })
}

/// What an address space can be asked.
fn questions(space: &AddressSpace) -> Result<()> {
    let questions: [&dyn Fn() -> hugebar::Result<()>; 2] =
        [&|| space.iova_ranges().map(drop), &|| {
            space.mappings_left().map(drop)
        }];
    for ask in questions {
        let faults = Faults::of(&[libc::ENOTTY, libc::EINVAL]);
        faults.each(ask, |failed, result| {
            let errno = result.as_ref().err().and_then(hugebar::Error::errno);
            ensure!(errno == Some(failed.errno), "{errno:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Memory of each kind, mapped and unmapped.
fn each_kind(
    space: &AddressSpace,
    mut check: impl FnMut(&Failed<'_>, &hugebar::Result<()>) -> Result<()>,
) -> Result<()> {
    let owned = |memory: hugebar::Result<Memory>| {
        let mapping = space.map_owned(memory?, DmaAccess::ReadWrite)?;
        mapping.unmap().map(drop)
    };
    let kinds: [&dyn Fn() -> hugebar::Result<()>; 6] = [
        // With and without the hint for transparent huge pages.
        &|| owned(Memory::anonymous(2 * MIB)),
        &|| DmaBuffer::new(space, 4 * KIB).map(drop),
        &|| owned(Memory::shared(MIB, None)),
        &|| owned(Memory::huge_pages(3 * MIB, HugePage::Mib2)),
        &|| owned(Memory::shared(3 * MIB, Some(HugePage::Mib2))),
        &|| {
            let memory = Memory::anonymous(MIB)?;
            raw(space, &memory)?.unmap()
        },
    ];
    for (kind, work) in kinds.iter().enumerate() {
        let faults = Faults::of(&[libc::ENOMEM, libc::EINVAL]);
        // What cannot be unmapped has its own checks.
        let spared = ["munmap", "VFIO_IOMMU_UNMAP_DMA", "IOMMU_IOAS_UNMAP"];
        let tally = faults.sparing(&spared).each(work, &mut check);
        let tally = tally.with_context(|| format!("memory of kind {kind}"))?;
        ensure!(tally.failed >= 4, "{} failures", tally.failed);
    }
    Ok(())
}

#[allow(unsafe_code, reason = "maps memory that its caller keeps")]
fn raw(space: &AddressSpace, memory: &Memory) -> hugebar::Result<RawDmaMapping> {
    let (start, bytes) = (memory.as_ptr(), memory.bytes());
    // SAFETY: callers drop the memory after the mapping, and nothing refers to what is in it.
    unsafe { space.map_raw(start, bytes, DmaAccess::ReadWrite, REACH) }
}

/// I/O addresses at which memory could not be unmapped are never used again, and the memory is not freed.
fn cannot_be_unmapped(space: &AddressSpace) -> Result<()> {
    let memory = Memory::anonymous(MIB)?;
    let mut taken = Vec::new();
    for errno in [libc::EIO, libc::EINVAL] {
        let buffer = DmaBuffer::below(space, size(), REACH)?;
        taken.push(buffer.iova());
        let ((), calls) = fail(nth(0, errno), || drop(buffer));
        ensure!(calls.len() == 1, "it frees its memory: {calls:?}");
        let buffer = space.map_owned_below(Memory::anonymous(size())?, DmaAccess::Read, REACH)?;
        taken.push(buffer.iova());
        let (told, calls) = fail(nth(0, errno), || buffer.unmap());
        ensure!(told.is_err() && calls.len() == 1, "{calls:?}");
        let mapping = raw(space, &memory)?;
        taken.push(mapping.iova());
        ensure!(fail(nth(0, errno), || mapping.unmap()).0.is_err());
    }
    let all = taken.len();
    taken.sort_unstable();
    taken.dedup();
    ensure!(taken.len() == all, "{taken:x?} of {all}");
    Ok(())
}
