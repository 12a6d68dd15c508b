//! Limits of memory for DMA: locked memory, mappings of a container, I/O addresses, pages of 1 GiB.

use std::fs;

use anyhow::{Context, Result, ensure};
use hugebar::ErrorKind;
use hugebar::dma::DmaBuffer;
use hugebar::iommu::DmaAccess;
use hugebar::leaf::{GIB, MIB};
use hugebar::mem::{HugePage, Memory};
use hugebar::pci::Address;
use hugebar::seam::record;
use hugebar::vfio::Backend;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::bar;

/// All limits but that of I/O addresses. Afterwards this process has lost a capability.
pub(crate) fn run(address: Address, backend: Backend) -> Result<()> {
    pages_of_a_gib(address, backend)?;
    mappings(address, backend)?;
    locked_memory(address, backend)
}

/// A page of 1 GiB gets I/O addresses that are congruent modulo its size.
fn pages_of_a_gib(address: Address, backend: Backend) -> Result<()> {
    let pages = "/sys/kernel/mm/hugepages/hugepages-1048576kB";
    let free = fs::read_to_string(format!("{pages}/free_hugepages"))?;
    if free.trim() == "0" {
        return Ok(());
    }
    println!("a page of 1 GiB");
    let device = bar::open(address, backend)?;
    let memory = Memory::huge_pages(1, HugePage::Gib1)?;
    let mapping = device
        .address_space()?
        .map_owned(memory, DmaAccess::ReadWrite)?;
    ensure!(
        mapping.bytes() == GIB && mapping.iova() % GIB == 0,
        "{mapping:?}"
    );
    let more = Memory::huge_pages(1, HugePage::Gib1).err();
    let more = more.context("there is one")?;
    ensure!(more.to_string().contains("hugepages-1048576kB"), "{more}");
    Ok(())
}

/// A container reports its limit of mappings, and beyond it the error is typed.
fn mappings(address: Address, backend: Backend) -> Result<()> {
    let parameter = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";
    let before = fs::read_to_string(parameter)?;
    ensure!(before.trim() == "65535", "{before}");
    fs::write(parameter, "2")?;
    let device = bar::open(address, backend)?;
    let space = device.address_space()?;
    let first = DmaBuffer::new(&space, MIB)?;
    let left = space.mappings_left()?;
    let second = DmaBuffer::new(&space, MIB)?;
    let third = DmaBuffer::new(&space, MIB);
    match backend {
        Backend::Type1 => {
            ensure!(
                left == Some(1) && space.mappings_left()? == Some(0),
                "{left:?}"
            );
            let error = third.err().context("a third mapping")?;
            let said = error.remedy().unwrap_or_default();
            ensure!(
                error.kind() == ErrorKind::OutOfMemory && said.contains("dma_entry_limit"),
                "{error}"
            );
            println!("{error}");
            drop(second);
            ensure!(space.mappings_left()? == Some(1));
            drop(DmaBuffer::new(&space, MIB)?);
        }
        _ => ensure!(left.is_none() && third.is_ok()),
    }
    drop(first);
    Ok(fs::write(parameter, before)?)
}

/// `RLIMIT_MEMLOCK`, for a process without the capability to exceed it.
fn locked_memory(address: Address, backend: Backend) -> Result<()> {
    let device = bar::open(address, backend)?;
    let space = device.address_space()?;
    let limit = 8 * MIB;
    setrlimit(
        Resource::Memlock,
        Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        },
    )?;
    ensure!(
        space.lockable().is_none(),
        "CAP_IPC_LOCK is above the limit"
    );
    drop(DmaBuffer::new(&space, 2 * limit)?);
    let mut own = capabilities(None)?;
    own.effective.remove(CapabilitySet::IPC_LOCK);
    own.permitted.remove(CapabilitySet::IPC_LOCK);
    set_capabilities(None, own)?;

    let type1 = backend == Backend::Type1;
    let all = type1.then_some(limit);
    ensure!(space.lockable() == all, "{:?}", space.lockable());
    let some = DmaBuffer::new(&space, 3 * MIB)?;
    let left = space.lockable();
    ensure!(left == all.map(|all| all - 3 * MIB), "{left:?}");
    let (refused, calls) = record(|| DmaBuffer::new(&space, 6 * MIB));
    let error = refused.err().context("more than may be locked")?;
    println!("{error}");
    ensure!(error.kind() == ErrorKind::OutOfMemory, "{error}");
    let said = error.to_string();
    let words = match type1 {
        true => [
            "RLIMIT_MEMLOCK is 8 MiB, of which 3 MiB are locked",
            "ulimit -l",
        ],
        false => ["RLIMIT_MEMLOCK, which is 8 MiB", "ulimit -l"],
    };
    ensure!(words.iter().all(|word| said.contains(word)), "{said}");
    // Reported before anything is locked.
    let asked = calls.iter().any(|call| call.contains("MAP_DMA"));
    ensure!(!asked, "{calls:?}");
    drop(DmaBuffer::new(&space, 5 * MIB)?);
    drop(some);
    ensure!(space.lockable() == all);
    Ok(())
}

/// An IOMMU with few address bits has no room for a second BAR, and the error says so.
pub(crate) fn narrow(address: Address, backend: Backend) -> Result<()> {
    let device = bar::open(address, backend)?;
    let space = device.address_space()?;
    let bar = device.map_bar(2)?;
    let first = space.map_bar(&device, &bar)?;
    let second = space.map_bar(&device, &bar).err().context("no room")?;
    println!("{second}");
    ensure!(second.kind() == ErrorKind::OutOfMemory, "{second}");
    ensure!(
        second
            .to_string()
            .contains("the IOMMU has addresses of 39 bits"),
        "{second}"
    );
    // There is still room for small mappings.
    let small = DmaBuffer::new(&space, MIB)?;
    drop((first, small));
    space.map_bar(&device, &bar)?;
    Ok(())
}
