//! Where areas lie, what is around them, and what is left of them.

use hugebar::ErrorKind;
use hugebar::facts::Status;
use hugebar::layout::{Area, Layout};
use hugebar::leaf::{GIB, LeafSizes, MIB};
use hugebar::mem::{Hint, MapOptions, Mapping, Window};
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan};
use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::param::page_size;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bar::{
    BAR, PLACEMENTS, hole, holed, map, map_with, odd, page, pages, plan, sizes, smaller, whole,
};
use crate::maps::{File, at, reserved, vm_flags};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "place::congruent_has_one_window_with_reserved_holes",
        congruent_has_one_window,
    ),
    (
        "place::an_odd_physical_address_gives_its_residue",
        odd_physical_address,
    ),
    (
        "place::size_aligned_follows_the_size_of_each_area",
        size_aligned_follows_the_size,
    ),
    (
        "place::plain_lets_the_kernel_choose",
        plain_lets_the_kernel_choose,
    ),
    (
        "place::areas_are_advised_and_not_inherited",
        advised_and_not_inherited,
    ),
    (
        "place::a_window_takes_another_layout_of_the_region",
        another_layout,
    ),
    ("place::a_window_without_room_is_refused", no_room),
    (
        "place::scarce_addresses_cost_alignment_not_the_mapping",
        scarce_addresses,
    ),
    (
        "place::what_the_file_refuses_is_an_error",
        refused_by_the_file,
    ),
    (
        "place::offsets_that_cannot_be_are_refused",
        impossible_offsets,
    ),
    ("place::mappings_go_to_other_threads", other_threads),
    (
        "place::a_child_does_not_unmap_what_it_has_there",
        a_child_does_not_unmap,
    ),
    (
        "place::a_child_has_no_use_of_a_window",
        a_child_has_no_use_of_a_window,
    ),
    ("place::files_of_huge_pages_are_refused", huge_pages),
    (
        "place::a_child_of_the_same_number_does_not_unmap_what_it_has_there",
        a_child_of_the_same_number_does_not_unmap,
    ),
    (
        "place::pages_smaller_than_the_machines_are_refused",
        smaller_pages,
    ),
];

fn congruent_has_one_window() {
    let file = File::new(BAR);
    let mapping = map(&file, &plan(&holed(), Placement::Congruent)).unwrap();
    let base = mapping.as_ptr().unwrap().addr().get() as u64;
    assert_eq!(base % sizes().largest(), 0);
    assert_eq!(mapping.alignment(), sizes().largest());
    for mapped in mapping.areas() {
        assert_eq!(mapped.address(), base + mapped.area.offset);
        let line = at(mapped.address()).unwrap();
        assert_eq!(
            (line.start, line.end),
            (mapped.address(), mapped.address() + mapped.area.size)
        );
        assert_eq!(
            (line.mode.as_str(), line.offset),
            ("rw-s", mapped.area.offset)
        );
        assert_eq!(line.name, "/memfd:bar (deleted)");
    }
    assert_eq!(mapping.areas().len(), 2);
    assert!(
        reserved(base + hole().offset, hole().size),
        "the hole stays ours"
    );
    assert_eq!(mapping.expected(&sizes()), mapping.plan().best());
    assert_eq!(
        mapping.expected(&sizes().only_base()).total(),
        BAR / page() - 1
    );
}

fn odd_physical_address() {
    let file = File::new(BAR);
    let phys = Phys::At(0x12_0000_0000 + odd());
    let plan = Plan::new(&whole(), phys, &sizes(), Placement::Congruent).unwrap();
    let mapping = map(&file, &plan).unwrap();
    assert_eq!(mapping.areas()[0].address() % sizes().largest(), odd());
    assert_eq!(mapping.expected(&sizes()), plan.best());
}

fn size_aligned_follows_the_size() {
    let file = File::new(BAR);
    let mapping = map(&file, &plan(&holed(), Placement::SizeAligned)).unwrap();
    let areas: Vec<_> = mapping
        .areas()
        .iter()
        .map(|mapped| mapped.area.size)
        .collect();
    assert_eq!(areas, [pages(6), BAR - pages(7)]);
    assert_eq!(mapping.areas()[0].address() % pages(2), 0);
    assert_eq!(mapping.as_ptr(), None, "two windows");
    let first = whole()
        .without(Area::new(pages(6), BAR - pages(6)))
        .unwrap();
    let mapping = map(&file, &plan(&first, Placement::SizeAligned)).unwrap();
    assert_eq!(mapping.as_ptr(), None, "nothing is behind its only area");
    assert_eq!(
        map(&file, &plan(&whole(), Placement::SizeAligned))
            .unwrap()
            .alignment(),
        GIB
    );
}

fn plain_lets_the_kernel_choose() {
    let file = File::new(BAR);
    let mapping = map(&file, &plan(&holed(), Placement::Plain)).unwrap();
    for mapped in mapping.areas() {
        let line = at(mapped.address()).unwrap();
        assert_eq!(
            (line.mode.as_str(), line.offset),
            ("rw-s", mapped.area.offset)
        );
    }
}

fn advised_and_not_inherited() {
    let file = File::new(BAR);
    for placement in PLACEMENTS {
        for hint in [Hint::Auto, Hint::On, Hint::Off, Hint::NoHugepage] {
            let options = MapOptions {
                hint,
                ..MapOptions::default()
            };
            let mapping = map_with(&file, &plan(&holed(), placement), options).unwrap();
            let due = hint == Hint::On || (hint == Hint::Auto && placement == Placement::Congruent);
            assert_eq!(mapping.hinted(), due, "{placement} {hint:?}");
            let refused = hint == Hint::NoHugepage;
            assert_eq!(mapping.no_hugepage(), refused, "{placement} {hint:?}");
            for mapped in mapping.areas() {
                let flags = vm_flags(mapped.address());
                assert!(
                    flags.iter().any(|flag| flag == "dc"),
                    "do not copy on fork: {flags:?}"
                );
                assert_eq!(
                    flags.iter().any(|flag| flag == "hg"),
                    due,
                    "huge page hint: {flags:?}"
                );
                assert_eq!(
                    flags.iter().any(|flag| flag == "nh"),
                    refused,
                    "no huge pages: {flags:?}"
                );
            }
        }
    }
}

fn another_layout() {
    let file = File::new(BAR);
    for placement in [Placement::Congruent, Placement::Plain] {
        let plan = plan(&whole(), placement);
        let mapping = map(&file, &plan).unwrap();
        let base = mapping.areas()[0].address();
        mapping.write_u32(pages(8), 7).unwrap();
        let window = mapping.into_window().unwrap();
        assert!(reserved(base, BAR), "the addresses are kept");
        let carved = crate::plan(&holed(), placement);
        let mapping = Mapping::new(&file, 0, &carved, window, MapOptions::default()).unwrap();
        assert_eq!(mapping.areas()[1].address(), base + pages(7));
        assert_eq!(mapping.read_u32(pages(8)), Ok(7));
        assert!(reserved(base + hole().offset, hole().size));
        let window = mapping.into_window().unwrap();
        let again = Mapping::new(&file, 0, &plan, window, MapOptions::default()).unwrap();
        assert_eq!(again.areas()[0].address(), base);
    }
}

fn no_room() {
    let file = File::new(BAR);
    let small = Layout::whole(MIB, page()).unwrap();
    let window = Window::reserve(&plan(&small, Placement::Congruent)).unwrap();
    let large = plan(&whole(), Placement::Congruent);
    let error = Mapping::new(&file, 0, &large, window, MapOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no room"), "{error}");

    // Mappings never leave an arena, not even for addresses that the kernel could choose.
    let arena = crate::arena::Arena::new(MIB);
    let window = arena.window(&plan(&small, Placement::Plain)).unwrap();
    let large = plan(&whole(), Placement::Plain);
    let error = Mapping::new(&file, 0, &large, window, MapOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);

    let nothing = whole().without(Area::new(0, BAR)).unwrap();
    let error = map(&file, &plan(&nothing, Placement::Congruent)).unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
}

/// Runs `body` with room for this many more bytes of address space.
fn with_addresses<T>(bytes: u64, body: impl FnOnce() -> T) -> T {
    let used = Status::own().unwrap().vm_size.unwrap();
    let before = getrlimit(Resource::As);
    let limit = Rlimit {
        current: Some(used + bytes),
        ..before
    };
    setrlimit(Resource::As, limit).unwrap();
    let result = body();
    setrlimit(Resource::As, before).unwrap();
    result
}

fn scarce_addresses() {
    let file = File::new(BAR);
    let whole = plan(&whole(), Placement::Congruent);
    let spare = sizes().largest() / 16;
    let mapping = with_addresses(BAR + spare, || map(&file, &whole)).unwrap();
    assert_eq!(mapping.alignment(), smaller(), "the next smaller leaf");
    let expected = mapping.expected(&sizes());
    assert!(expected.total() <= BAR / smaller());
    drop(mapping);
    let mapping = with_addresses(BAR + MIB, || map(&file, &whole)).unwrap();
    assert_eq!(mapping.alignment(), page(), "the page");
    drop(mapping);
    let error = with_addresses(BAR / 2, || map(&file, &whole)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    // QEMU's rule has no alternative.
    let aligned = plan(whole.layout(), Placement::SizeAligned);
    assert!(with_addresses(BAR + spare, || map(&file, &aligned)).is_err());
}

fn refused_by_the_file() {
    let file = File::new(BAR);
    rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::FUTURE_WRITE).unwrap();
    for placement in PLACEMENTS {
        let plan = plan(&holed(), placement);
        let error = map(&file, &plan).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EPERM), "{error}");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{placement}: {error}");
        let first = Area::new(0, pages(6)).to_string();
        assert!(error.to_string().contains(&first), "{error}");
        let options = MapOptions {
            write: false,
            ..MapOptions::default()
        };
        assert!(map_with(&file, &plan, options).is_ok());
    }
}

/// The kernel maps at least a whole huge page, beyond the end of an area and of the window.
fn huge_pages() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let Ok(file) = rustix::fs::memfd_create("huge", flags) else {
        println!("not tried: this kernel has no hugetlbfs");
        return;
    };
    rustix::fs::ftruncate(&file, 4 * MIB).unwrap();
    for placement in PLACEMENTS {
        let plan = plan(&Layout::whole(3 * MIB, page()).unwrap(), placement);
        let window = Window::reserve(&plan).unwrap();
        let error = Mapping::new(&file, 0, &plan, window, MapOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}

fn impossible_offsets() {
    let file = File::new(BAR);
    let more = page() - 1;
    for offset in [1, more, u64::MAX - more, i64::MAX as u64 - more] {
        let plan = plan(&whole(), Placement::Congruent);
        let window = Window::reserve(&plan).unwrap();
        let error = Mapping::new(&file, offset, &plan, window, MapOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{offset:#x}");
    }
}

fn other_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Mapping>();
    check::<Window>();
    check::<hugebar::Error>();
    check::<hugebar::vfio::Device>();
}

/// After a fork the child has no part of the mapping, and may have mapped something else there.
fn a_child_does_not_unmap() {
    let file = File::new(BAR);
    let mapping = map(&file, &plan(&holed(), Placement::Congruent)).unwrap();
    let address = mapping.areas()[1].address();
    // SAFETY: this process has one thread; the child ends without unwinding.
    match unsafe { libc::fork() } {
        0 => end(drops_without_unmapping(mapping, address)),
        child => {
            assert_eq!(status(child), 0, "the child's page was unmapped");
            assert_eq!(mapping.read_u32(pages(7)), Ok(0), "ours is untouched");
        }
    }
}

/// The same in a new PID namespace, where the child has the PID that its parent has in another.
fn a_child_of_the_same_number_does_not_unmap() {
    const REFUSED: i32 = 2 << 8;
    let space = libc::CLONE_NEWUSER | libc::CLONE_NEWPID;
    // SAFETY: as above; the children end without unwinding.
    let outer = match unsafe { libc::fork() } {
        // SAFETY: takes flags and changes nothing of ours.
        0 if unsafe { libc::unshare(space) } != 0 => end_with(2),
        0 => {
            // SAFETY: as above.
            match unsafe { libc::fork() } {
                0 => end(number_one_forks_number_one()),
                first => end(status(first) == 0),
            }
        }
        outer => outer,
    };
    match status(outer) {
        REFUSED => println!("not tried: this user may make no PID namespaces"),
        status => assert_eq!(status, 0, "the child's page was unmapped"),
    }
}

fn number_one_forks_number_one() -> bool {
    let file = File::new(BAR);
    let Ok(mapping) = map(&file, &plan(&holed(), Placement::Congruent)) else {
        return false;
    };
    let address = mapping.areas()[1].address();
    // SAFETY: takes flags and changes nothing of ours.
    let apart = unsafe { libc::unshare(libc::CLONE_NEWPID) } == 0;
    // SAFETY: as above.
    match unsafe { libc::fork() } {
        0 => end(std::process::id() == 1 && drops_without_unmapping(mapping, address)),
        second => apart && std::process::id() == 1 && status(second) == 0,
    }
}

/// In a child: whether the mapping's addresses are free, and a new mapping there outlives the old one.
fn drops_without_unmapping(mapping: Mapping, address: u64) -> bool {
    let free = at(address).is_none();
    let target = std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap());
    let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
    // SAFETY: replaces nothing.
    let own = unsafe { mmap_anonymous(target, page_size(), ProtFlags::READ, flags) };
    drop(mapping);
    let kept = at(address).is_some_and(|line| line.mode == "r--p");
    free && own.is_ok() && kept
}

/// Nor can it use its parent's mapping or window there.
fn a_child_has_no_use_of_a_window() {
    let file = File::new(BAR);
    let plan = plan(&holed(), Placement::Congruent);
    let mapping = map(&file, &plan).unwrap();
    let window = Window::reserve(&plan).unwrap();
    let address = mapping.areas()[1].address();
    // SAFETY: this process has one thread; the child ends without unwinding.
    match unsafe { libc::fork() } {
        0 => {
            let target = std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap());
            let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
            // SAFETY: replaces nothing.
            let own = unsafe { mmap_anonymous(target, page_size(), ProtFlags::READ, flags) };
            let given = mapping.into_window().map(drop);
            let made = Mapping::new(&file, 0, &plan, window, MapOptions::default()).map(drop);
            let kind = |result: hugebar::Result<()>| result.err().map(|error| error.kind());
            let refused = [given, made].map(kind) == [Some(ErrorKind::InvalidInput); 2];
            let kept = at(address).is_some_and(|line| line.mode == "r--p");
            end(own.is_ok() && refused && kept)
        }
        child => assert_eq!(status(child), 0, "the child could use it"),
    }
}

fn end(good: bool) -> ! {
    end_with(i32::from(!good))
}

fn end_with(code: i32) -> ! {
    // SAFETY: ends a child at once.
    unsafe { libc::_exit(code) }
}

fn status(child: libc::pid_t) -> i32 {
    let mut status = -1;
    // SAFETY: waits for the child, and the status is an int.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    status
}

fn smaller_pages() {
    let file = File::new(BAR);
    let tiny = LeafSizes::new(&[1]).unwrap();
    let layout = Layout::whole(8192, 1)
        .unwrap()
        .without(Area::new(0, 1))
        .unwrap();
    for placement in PLACEMENTS {
        let plan = Plan::new(&layout, Phys::Natural, &tiny, placement).unwrap();
        let error = Window::reserve(&plan).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        // A window for another plan does not help.
        let window = Window::reserve(&crate::plan(&whole(), Placement::Plain)).unwrap();
        let error = Mapping::new(&file, 4095, &plan, window, MapOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}
