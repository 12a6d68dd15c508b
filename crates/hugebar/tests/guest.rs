//! Compares guest addresses with a model that decides page by page as KVM and an IOMMU do, and memory slots
//! with a set of pages.

use hugebar::ErrorKind;
use hugebar::guest::{Fit, Slot, Table};
use hugebar::layout::{Area, Layout};
use hugebar::leaf::{GIB, KIB, LeafSizes, Leaves, MIB};
use hugebar::mem::{MapOptions, Mapping, Window};
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan};
use proptest::prelude::*;

const PAGE: u64 = 4 * KIB;

/// Sizes with small ratios: 4 KiB, 16 KiB, 128 KiB.
fn small_sizes(len: usize) -> LeafSizes {
    LeafSizes::new(&[4 * KIB, 16 * KIB, 128 * KIB][..len]).unwrap()
}

/// One slot with the mapped area (VMA) that it is part of.
#[derive(Clone, Debug)]
struct Placed {
    slot: Slot,
    vma: (u64, u64),
}

/// The process's largest leaf at an address, by `vfio_pci_mmap_huge_fault`.
fn host_leaf(address: u64, placed: &Placed, hpa: u64, sizes: &LeafSizes) -> u64 {
    let fits = |size: &&u64| {
        let start = address / **size * **size;
        let phys = hpa.wrapping_sub(address.wrapping_sub(start));
        start >= placed.vma.0 && start + **size <= placed.vma.1 && phys % **size == 0
    };
    *sizes.as_slice().iter().rev().find(fits).unwrap()
}

/// Populates a guest page by page, as KVM on x86 does: `kvm_alloc_memslot_metadata` decides which blocks of a
/// slot may be large, `host_pfn_mapping_level` how large they are in the process.
fn second_stage(all: &[Placed], phys: Phys, sizes: &LeafSizes, address: u64) -> Leaves {
    let mut leaves = Leaves::none(sizes);
    for placed in all {
        let (area, hva) = (placed.slot.area, placed.slot.address);
        let base = address + area.offset;
        let mut next = base;
        while next < base + area.size {
            let offset = next - address;
            let host = host_leaf(hva + (next - base), placed, phys.behind(offset), sizes);
            let allowed = |size: &&u64| {
                let block = next / **size * **size;
                let whole = block >= base && block + **size <= base + area.size;
                **size <= host && (base ^ hva) & (**size - 1) == 0 && whole
            };
            let size = *sizes.as_slice().iter().rev().find(allowed).unwrap();
            assert_eq!(next % size, 0, "leaves follow one another");
            leaves.add(size, 1);
            next += size;
        }
    }
    leaves
}

/// Maps as `iommu_map` does: the largest page that both addresses and the rest of the length allow.
fn iommu(all: &[Placed], phys: Phys, sizes: &LeafSizes, address: u64) -> Leaves {
    let mut leaves = Leaves::none(sizes);
    for Placed { slot, .. } in all {
        let mut done = 0;
        while done < slot.area.size {
            let offset = slot.area.offset + done;
            let aligned = address.wrapping_add(offset) | phys.behind(offset);
            let fits = |size: &&u64| aligned % **size == 0 && done + **size <= slot.area.size;
            let size = *sizes.as_slice().iter().rev().find(fits).unwrap();
            leaves.add(size, 1);
            done += size;
        }
    }
    leaves
}

/// A region of areas with further holes, at addresses that are only congruent by chance.
fn placed() -> impl Strategy<Value = Vec<Placed>> {
    let area = (1_u64..90, 0_u64..20, 0_u64..64, 0_u64..120, 0_u64..8);
    prop::collection::vec(area, 1..4).prop_map(|list| {
        let mut placed = Vec::new();
        let mut offset = 0;
        for (index, (pages, gap, shift, hole, hole_pages)) in list.into_iter().enumerate() {
            offset += gap * PAGE;
            // Sometimes congruent with the offset modulo every size.
            let shift = if shift < 24 { 0 } else { shift };
            let address = ((index as u64 + 1) << 30) + offset + shift * PAGE;
            let end = offset + pages * PAGE;
            let cut = (offset + hole * PAGE).min(end);
            let rest = (cut + hole_pages * PAGE).min(end);
            let parts = if hole_pages == 0 {
                vec![(offset, end)]
            } else {
                vec![(offset, cut), (rest, end)]
            };
            for (from, to) in parts.into_iter().filter(|(from, to)| from < to) {
                placed.push(Placed {
                    slot: Slot {
                        area: Area::new(from, to - from),
                        address: address + (from - offset),
                    },
                    vma: (address, address + pages * PAGE),
                });
            }
            offset = end + PAGE;
        }
        placed
    })
}

fn fit(all: &[Placed], phys: Phys, sizes: &LeafSizes) -> Fit {
    let slots: Vec<_> = all.iter().map(|placed| placed.slot).collect();
    Fit::new(&slots, phys, sizes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn agrees_with_kvm_and_the_iommu(
        all in placed(), phys in 0_u64..64, guest in 0_u64..128, len in 1_usize..=3,
    ) {
        let (sizes, phys) = (small_sizes(len), Phys::At((1 << 40) + phys * PAGE));
        let (fit, address) = (fit(&all, phys, &sizes), guest * PAGE);
        prop_assert_eq!(
            fit.leaves(Table::SecondStage, address), second_stage(&all, phys, &sizes, address)
        );
        prop_assert_eq!(fit.leaves(Table::Iommu, address), iommu(&all, phys, &sizes, address));
    }

    #[test]
    fn no_address_is_better_or_nearer_than_what_is_proposed(
        all in placed(), phys in 0_u64..64, guest in 40_u64..128, len in 1_usize..=3,
        iommu_too: bool,
    ) {
        let (sizes, phys) = (small_sizes(len), Phys::At((1 << 40) + phys * PAGE));
        let fit = fit(&all, phys, &sizes);
        let table = if iommu_too { Table::Iommu } else { Table::SecondStage };
        let model = if iommu_too { iommu } else { second_stage };
        let cost = |address| model(&all, phys, &sizes, address).total();
        // All residues of the largest size twice over, on either side.
        let best = (0..32).map(|page| cost(page * PAGE)).min().unwrap();
        prop_assert_eq!(fit.best(table).total(), best);
        let address = guest * PAGE;
        let below = (0..=guest).rev().map(|page| page * PAGE).find(|&at| cost(at) == best);
        let above = (guest..guest + 64).map(|page| page * PAGE).find(|&at| cost(at) == best);
        match fit.better(table, address) {
            None => prop_assert_eq!(cost(address), best),
            Some(better) => {
                prop_assert!(cost(address) > best);
                prop_assert_eq!((better.below, better.above), (below, above));
            }
        }
        if let (Some(below), Table::Iommu) = (below, table) {
            let kvm = fit.leaves(Table::SecondStage, below);
            prop_assert_eq!(kvm, fit.best(Table::SecondStage), "it suits both");
        }
    }
}

#[test]
fn a_region_wants_no_more_alignment_than_is_of_use() {
    let fit = |area, address| {
        let slot = Slot { area, address };
        Fit::new(&[slot], Phys::Natural, &LeafSizes::X86_64)
    };
    let small = fit(Area::new(0, 128 * MIB), 0x7f00_0000_0000);
    assert_eq!(small.wanted(Table::SecondStage).alignment(), 2 * MIB);
    assert_eq!(small.better(Table::Iommu, 2 * MIB), None);
    let large = fit(Area::new(0, 4 * GIB), 0x7f00_0000_0000);
    assert_eq!(large.wanted(Table::SecondStage).alignment(), GIB);
    // The process has only base pages: KVM cannot have more, but the IOMMU can.
    let odd = fit(Area::new(0, 4 * GIB), 0x7f00_0000_1000);
    assert_eq!(odd.wanted(Table::SecondStage).alignment(), 4 * KIB);
    assert_eq!(odd.wanted(Table::Iommu).alignment(), GIB);
    // Nothing lower, nothing higher; a slot cannot start inside a page.
    let better = large.better(Table::Iommu, u64::MAX).unwrap();
    assert_eq!(
        (better.below, better.above),
        (Some(u64::MAX - GIB + 1), None)
    );
    assert!(odd.better(Table::SecondStage, 4097).is_some());
    let high = Fit::new(large.slots(), Phys::At(GIB / 2), &LeafSizes::X86_64);
    assert_eq!(high.wanted(Table::Iommu).residue(), GIB / 2);
    assert_eq!(high.better(Table::Iommu, MIB).unwrap().below, None);
}

/// A mapped file of `pages` pages with holes.
fn map(pages: u64, holes: &[Area], placement: Placement) -> Mapping {
    let file = rustix::fs::memfd_create("bar", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, pages * PAGE).unwrap();
    let mut layout = Layout::whole(pages * PAGE, PAGE).unwrap();
    for &hole in holes {
        layout = layout.without(hole).unwrap();
    }
    let plan = Plan::new(&layout, Phys::Natural, &LeafSizes::X86_64, placement).unwrap();
    let window = Window::reserve(&plan).unwrap();
    Mapping::new(&file, 0, &plan, window, MapOptions::default()).unwrap()
}

fn hole(pages: u64) -> impl Strategy<Value = Area> {
    (0..pages * PAGE).prop_flat_map(move |offset| {
        (1..=(pages * PAGE - offset).min(5 * PAGE)).prop_map(move |size| Area::new(offset, size))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn slots_cover_all_but_the_holes(
        holes in prop::collection::vec(hole(40), 0..4),
        exclude in prop::collection::vec(hole(40), 0..4),
        placement in prop::sample::select(vec![
            Placement::Congruent, Placement::SizeAligned, Placement::Plain,
        ]),
    ) {
        let mut wanted = [true; 40];
        for hole in holes.iter().chain(&exclude) {
            let (first, last) = (hole.offset / PAGE, (hole.offset + hole.size - 1) / PAGE);
            for page in first..=last {
                wanted[usize::try_from(page).unwrap()] = false;
            }
        }
        let layout = holes.iter().fold(
            Layout::whole(40 * PAGE, PAGE).unwrap(), |layout, &hole| layout.without(hole).unwrap()
        );
        prop_assume!(!layout.areas().is_empty());
        let mapping = map(40, &holes, placement);
        let mut seen = [false; 40];
        let mut end = None;
        for slot in mapping.slots(&exclude).unwrap() {
            let Area { offset, size } = slot.area;
            prop_assert!(offset % PAGE == 0 && size % PAGE == 0 && size > 0);
            prop_assert!(end.is_none_or(|end| end < offset), "ascending, never adjacent");
            end = Some(offset + size);
            for page in offset / PAGE..(offset + size) / PAGE {
                seen[usize::try_from(page).unwrap()] = true;
                let address = mapping.pointer(page * PAGE, PAGE).unwrap().addr().get() as u64;
                prop_assert_eq!(address, slot.address + (page * PAGE - offset));
            }
        }
        prop_assert_eq!(seen, wanted);
    }
}

#[test]
fn what_is_no_part_of_the_region_cannot_be_excluded() {
    let mapping = map(4, &[], Placement::Congruent);
    for hole in [
        Area::new(0, 0),
        Area::new(12 * KIB, 8 * KIB),
        Area::new(u64::MAX, 2),
    ] {
        let error = mapping.slots(&[hole]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert!(mapping.slots(&[Area::new(0, 16 * KIB)]).unwrap().is_empty());
}
