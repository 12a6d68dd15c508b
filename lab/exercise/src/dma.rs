//! QEMU's educational device (`edu`) moves data into and out of mapped memory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use hugebar::ErrorKind;
use hugebar::dma::DmaBuffer;
use hugebar::iommu::{AddressSpace, DmaAccess};
use hugebar::leaf::{GIB, MIB};
use hugebar::mem::{HugePage, Memory};
use hugebar::pci::Address;
use hugebar::vfio::Backend;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::ForkResult;

use crate::bar::{self, iommu_page};
use crate::edu::{Edu, PIECE, REACH};
use crate::reused;
use crate::state::State;

/// How far apart pieces lie: the page of the device.
const PAGE: usize = 4096;

/// A size that no other mapping of this process has, to find it in `/proc/self/maps`.
pub(crate) fn size() -> u64 {
    17 * bar::page()
}

pub(crate) fn run(address: Address, backend: Backend) -> Result<()> {
    let edu = Edu::open(address, backend)?;
    let space = edu.device.address_space()?;
    moved(&edu, &space)?;
    addresses(&space)?;
    huge_pages(&space)?;
    shared(&edu, &space)?;
    raw(&space)?;
    kept_from_children(&edu, &space)?;
    reused::run(&edu, &space)?;
    drop((edu, space));
    outlives(address, backend)
}

/// The device copies a piece byte for byte, and nothing beside it changes.
fn moved(edu: &Edu, space: &AddressSpace) -> Result<()> {
    let buffer = DmaBuffer::below(space, 4 * PAGE as u64, REACH)?;
    let pattern: Vec<u8> = (0..=250).cycle().take(PIECE).collect();
    buffer.copy_from(0, &pattern)?;
    let page = PAGE as u64;
    edu.copy(buffer.iova(), buffer.iova() + 2 * page)?;
    let mut all = vec![0xff; 4 * PAGE];
    buffer.copy_to(0, &mut all)?;
    ensure!(all[..PIECE] == pattern, "what was read has changed");
    let written = &all[2 * PAGE..2 * PAGE + PIECE];
    ensure!(written == pattern, "what was written differs");
    let nothing = [0; PAGE];
    let rest = [
        PIECE..PAGE,
        PAGE..2 * PAGE,
        2 * PAGE + PIECE..3 * PAGE,
        3 * PAGE..4 * PAGE,
    ];
    for part in rest {
        ensure!(all[part.clone()] == nothing[..part.len()], "{part:?}");
    }
    // A device that may only read does not write.
    let memory = Memory::anonymous(page)?;
    let mapping = space.map_owned_below(memory, DmaAccess::Read, REACH)?;
    edu.copy(buffer.iova(), mapping.iova())?;
    let memory = mapping.unmap()?;
    let mapping = space.map_owned_below(memory, DmaAccess::Read, REACH)?;
    edu.copy(mapping.iova(), buffer.iova() + page)?;
    buffer.copy_to(page, &mut all[..PIECE])?;
    ensure!(all[..PIECE] == nothing[..PIECE], "it was written to");
    Ok(())
}

/// I/O addresses are congruent, above 4 GiB unless out of the device's reach, and are reused.
fn addresses(space: &AddressSpace) -> Result<()> {
    let high = DmaBuffer::new(space, 2 * MIB + 1)?;
    let start = high.as_ptr().addr().get() as u64;
    let large = iommu_page(2 * MIB);
    ensure!(
        high.iova() >= 4 * GIB && high.iova() % large == start % large,
        "{high:?}"
    );
    let low = DmaBuffer::below(space, 1, REACH)?;
    let first = low.iova();
    ensure!(first != 0 && first < REACH, "{low:?}");
    drop(low);
    ensure!(DmaBuffer::below(space, 1, REACH)?.iova() == first);
    let none = DmaBuffer::below(space, 1, 1).err().context("no room")?;
    ensure!(none.kind() == ErrorKind::OutOfMemory, "{none}");
    Ok(())
}

fn huge_pages(space: &AddressSpace) -> Result<()> {
    let pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    let few = Memory::huge_pages(1 << 40, HugePage::Mib2).err();
    let few = few.context("there are not so many")?.to_string();
    ensure!(few.contains(pages), "{few}");
    fs::write(pages, "4")?;
    let memory = Memory::huge_pages(3 * MIB, HugePage::Mib2)?;
    ensure!(memory.bytes() == 4 * MIB);
    let mapping = space.map_owned(memory, DmaAccess::ReadWrite)?;
    ensure!(mapping.iova() % iommu_page(2 * MIB) == 0, "{mapping:?}");
    drop(mapping);
    // All of them are free again.
    let free = fs::read_to_string(pages.replace("nr_", "free_"))?;
    ensure!(free.trim() == "4", "{free}");
    Ok(fs::write(pages, "0")?)
}

/// Memory that other processes can map as well: what the device writes is in the file.
fn shared(edu: &Edu, space: &AddressSpace) -> Result<()> {
    let page = bar::page();
    let memory = Memory::shared(3 * page + 1, None)?;
    ensure!(memory.bytes() == 4 * page);
    let file = memory.file().context("it is one of a file")?;
    let file = File::from(file.try_clone_to_owned()?);
    let pattern: Vec<u8> = (0..=252).cycle().take(PIECE).collect();
    file.write_all_at(&pattern, 0)?;
    let buffer = DmaBuffer::of(space.map_owned_below(memory, DmaAccess::ReadWrite, REACH)?);
    edu.copy(buffer.iova(), buffer.iova() + 2 * page)?;
    let mut seen = [0; PIECE];
    file.read_exact_at(&mut seen, 2 * page)?;
    ensure!(seen[..] == pattern, "the file has something else");
    // It keeps its size under the device.
    ensure!(file.set_len(page).is_err() && file.set_len(8 * page).is_err());
    drop(buffer);
    ensure!(Memory::anonymous(1)?.file().is_none());
    // And of huge pages.
    let pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    fs::write(pages, "2")?;
    let memory = Memory::shared(3 * MIB, Some(HugePage::Mib2))?;
    let mapping = space.map_owned(memory, DmaAccess::ReadWrite)?;
    ensure!(mapping.bytes() == 4 * MIB && mapping.iova() % iommu_page(2 * MIB) == 0);
    let few = Memory::shared(3 * MIB, Some(HugePage::Mib2)).err();
    let few = few.context("both pages are taken")?;
    ensure!(few.kind() == ErrorKind::OutOfMemory, "{few}");
    ensure!(
        few.remedy().is_some_and(|remedy| remedy.contains(pages)),
        "{few}"
    );
    drop(mapping);
    Ok(fs::write(pages, "0")?)
}

/// Memory that its owner keeps is not mapped twice by accident: its address is reused.
#[allow(unsafe_code, reason = "maps memory that it keeps")]
fn raw(space: &AddressSpace) -> Result<()> {
    let memory = Memory::anonymous(MIB)?;
    let map = |bytes| {
        // SAFETY: the memory is dropped after the mapping, and nothing refers to what is in it.
        unsafe { space.map_raw(memory.as_ptr(), bytes, DmaAccess::ReadWrite, REACH) }
    };
    let mapping = map(MIB)?;
    let iova = mapping.iova();
    ensure!(mapping.bytes() == MIB && iova < REACH);
    mapping.unmap()?;
    ensure!(map(MIB)?.iova() == iova);
    let odd = map(MIB - 1).err().context("no whole pages")?;
    ensure!(odd.kind() == ErrorKind::InvalidInput, "{odd}");
    Ok(())
}

/// A child after `fork` drops its parent's buffer, into which the device continues to write.
#[allow(unsafe_code, reason = "forks")]
fn kept_from_children(edu: &Edu, space: &AddressSpace) -> Result<()> {
    let buffer = DmaBuffer::below(space, size(), REACH)?;
    let pattern = [0x5a; PIECE];
    buffer.copy_from(0, &pattern)?;
    // SAFETY: this process has one thread, and the child ends at once.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            drop(buffer);
            // SAFETY: only ends the child.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            let ended = waitpid(child, None)?;
            ensure!(ended == WaitStatus::Exited(child, 0), "{ended:?}");
        }
    }
    let behind = PAGE as u64;
    edu.copy(buffer.iova(), buffer.iova() + behind)?;
    let mut seen = [0; PIECE];
    buffer.copy_to(behind, &mut seen)?;
    ensure!(seen == pattern, "it was unmapped");
    Ok(())
}

/// A buffer that is dropped after its device is still unmapped and freed.
fn outlives(address: Address, backend: Backend) -> Result<()> {
    let before = State::observe()?;
    let device = bar::open(address, backend)?;
    let buffer = DmaBuffer::new(&device.address_space()?, size())?;
    drop(device);
    ensure!(buffers()? == 1, "{}", buffers()?);
    drop(buffer);
    ensure!(buffers()? == 0, "its memory is left");
    before.unchanged()
}

/// How many mappings of this [`size`] there are.
pub(crate) fn buffers() -> Result<usize> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let length = |line: &str| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let hex = |digits| u64::from_str_radix(digits, 16).ok();
        Some(hex(end)? - hex(start)?)
    };
    let own = Some(size());
    Ok(maps.lines().filter(|line| length(line) == own).count())
}
