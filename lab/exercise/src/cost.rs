//! What mapping for DMA and unmapping cost, apart from one another; and that no system call is made in vain.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hugebar::bar::Bar;
use hugebar::dma::DmaBuffer;
use hugebar::iommu::{AddressSpace, DmaAccess};
use hugebar::layout::Area;
use hugebar::leaf::{Bytes, GIB, KIB, MIB};
use hugebar::mem::{HugePage, Memory};
use hugebar::pci::Address;
use hugebar::plan::Placement;
use hugebar::populate::present;
use hugebar::seam::record;
use hugebar::vfio::{Backend, Device};

use crate::bar;

/// How much memory is mapped.
const MEMORY: u64 = 64 * MIB;

pub(crate) fn run(address: Address, backend: Backend, rounds: usize) -> Result<()> {
    ensure!(rounds > 0, "no rounds");
    of_a_census(bar::open(address, backend)?, backend)?;
    of_present(bar::Bar::of(bar::open(address, backend)?)?, backend)?;
    let device = bar::open(address, backend)?;
    let space = device.address_space()?;
    of_a_buffer(&space, backend)?;
    let bar = device.map_bar(2)?;
    let what = format!(
        "{} of a BAR ({})",
        Bytes(bar.region().size()),
        bar.plan().best()
    );
    measure(&what, rounds, || of_a_bar(&space, &device, &bar, backend))?;
    let base = Memory::shared(MEMORY, None)?;
    memory(&space, base, &Bytes(bar::page()).to_string(), rounds)?;
    let pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    fs::write(pages, (MEMORY / (2 * MIB)).to_string())?;
    let huge = Memory::huge_pages(MEMORY, HugePage::Mib2)?;
    memory(&space, huge, "2 MiB", rounds)?;
    Ok(fs::write(pages, "0")?)
}

/// Memory that is there already: the first mapping, which fills it, does not count.
fn memory(space: &AddressSpace, memory: Memory, pages: &str, rounds: usize) -> Result<()> {
    let mut memory = Some(space.map_owned(memory, DmaAccess::ReadWrite)?.unmap()?);
    measure(
        &format!("{} of memory in pages of {pages}", Bytes(MEMORY)),
        rounds,
        || {
            let Some(own) = memory.take() else {
                anyhow::bail!("it was lost");
            };
            let (mapping, map) = timed(|| space.map_owned(own, DmaAccess::ReadWrite));
            let mapping = mapping?;
            let (unmapped, unmap) = timed(|| mapping.unmap());
            memory = Some(unmapped?);
            Ok([map, unmap])
        },
    )
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed())
}

/// Repeats mapping and unmapping, and prints the medians of their times.
fn measure(
    what: &str,
    rounds: usize,
    mut round: impl FnMut() -> Result<[Duration; 2]>,
) -> Result<()> {
    let mut all = Vec::new();
    for _ in 0..rounds {
        all.push(round()?);
    }
    let [map, unmap] = [0, 1].map(|part| {
        let mut times: Vec<_> = all.iter().map(|times| times[part]).collect();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e3
    });
    println!("{what}: map {map:.2} ms, unmap {unmap:.2} ms");
    Ok(())
}

/// By type1, a census maps and unmaps a scratch page twice to warm up, and four pages of each leaf: the first one installs
/// it, the others show that it is there. KVM installs leaves without the IOMMU.
fn of_a_census(device: Device, backend: Backend) -> Result<()> {
    let mut own = bar::Bar::of(device)?;
    let bar = own.device.map_bar(2)?;
    let (measured, calls) = record(|| bar.measure(own.populate.as_mut()));
    let census = measured?.census;
    let leaves = census.measured.total();
    ensure!(census.complete && census.faults == leaves, "{census:?}");
    let maps: Vec<_> = calls
        .iter()
        .filter(|name| name.contains("MAP_DMA") || name.contains("IOAS"))
        .collect();
    let pairs = maps
        .chunks(2)
        .all(|pair| *pair == [&"VFIO_IOMMU_MAP_DMA", &"VFIO_IOMMU_UNMAP_DMA"]);
    let due = match backend {
        Backend::Type1 => 2 * (2 + 4 * leaves),
        _ => 0,
    };
    ensure!(
        pairs && maps.len() as u64 == due,
        "{leaves} leaves by {calls:?}"
    );
    Ok(())
}

/// Making a BAR present takes as many faults as it has leaves, and as many steps.
fn of_present(mut own: bar::Bar, backend: Backend) -> Result<()> {
    let whole = own.region.size();
    let sizes = own.facts.device_leaf_sizes();
    for size in [GIB, 2 * GIB, whole] {
        let rest = (size < whole).then(|| Area::new(size, whole - size));
        let plan = own.plan(rest.as_slice(), Placement::Congruent)?;
        let leaves = plan.best().total();
        let mapping = own.map(&plan)?;
        let (installed, calls) = record(|| present(&mapping, &sizes, own.populate.as_mut()));
        let installed = installed?;
        ensure!(installed.faults == leaves, "{installed:?}");
        let each: &[_] = match backend {
            Backend::Type1 => &["VFIO_IOMMU_MAP_DMA", "VFIO_IOMMU_UNMAP_DMA"],
            _ => &[
                "KVM_SET_USER_MEMORY_REGION",
                "KVM_PRE_FAULT_MEMORY",
                "KVM_SET_USER_MEMORY_REGION",
            ],
        };
        let all = each.repeat(usize::try_from(leaves)?);
        let due = [&["getrusage"], &all[..], &["getrusage"]].concat();
        ensure!(calls == due, "{leaves} leaves by {calls:?}");
    }
    Ok(())
}

/// Mapping a BAR and unmapping it is one system call each, and one or two to learn where.
fn of_a_bar(
    space: &AddressSpace,
    device: &Device,
    bar: &Bar,
    backend: Backend,
) -> Result<[Duration; 2]> {
    let ((peer, map), calls) = record(|| timed(|| space.map_bar(device, bar)));
    let peer = peer?;
    let expected: &[_] = match backend {
        Backend::Type1 => &[
            "VFIO_IOMMU_GET_INFO",
            "VFIO_IOMMU_GET_INFO",
            "VFIO_IOMMU_MAP_DMA",
        ],
        _ => &[
            "VFIO_DEVICE_FEATURE_DMA_BUF",
            "IOMMU_IOAS_IOVA_RANGES",
            "IOMMU_IOAS_MAP_FILE",
        ],
    };
    ensure!(calls == expected, "{calls:?}");
    let ((unmapped, unmap), calls) = record(|| timed(|| peer.unmap()));
    unmapped?;
    ensure!(calls == [unmap_of(backend)], "{calls:?}");
    Ok([map, unmap])
}

fn unmap_of(backend: Backend) -> &'static str {
    match backend {
        Backend::Type1 => "VFIO_IOMMU_UNMAP_DMA",
        _ => "IOMMU_IOAS_UNMAP",
    }
}

/// A buffer is mapped once, and unmapped before it is freed.
fn of_a_buffer(space: &AddressSpace, backend: Backend) -> Result<()> {
    let (buffer, calls) = record(|| DmaBuffer::new(space, 4 * KIB).map(drop));
    buffer?;
    let expected: &[_] = match backend {
        Backend::Type1 => &[
            "VFIO_IOMMU_GET_INFO",
            "VFIO_IOMMU_GET_INFO",
            "VFIO_IOMMU_MAP_DMA",
        ],
        _ => &["IOMMU_IOAS_IOVA_RANGES", "IOMMU_IOAS_MAP"],
    };
    let all = [
        &["mmap", "madvise"],
        expected,
        &[unmap_of(backend), "munmap"],
    ]
    .concat();
    ensure!(calls == all, "{calls:?}");
    Ok(())
}
