//! Every system call fails once, and nothing is lost, leaked or taken from another thread.

use hugebar::ErrorKind;
use hugebar::mem::{MapOptions, Mapping, Window, leftovers};
use hugebar::plan::{Placement, Plan};
use hugebar::seam::{Fault, fail, record};
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::param::page_size;

use crate::arena::Arena;
use crate::bar::{BAR, PLACEMENTS, holed, map, pages, plan, whole};
use crate::maps::{File, Line, at, maps, reserved};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("failures::every_call_of_a_mapping", every_call),
    ("failures::every_call_in_an_arena", every_call_in_an_arena),
    (
        "failures::every_call_of_into_window",
        every_call_of_into_window,
    ),
    (
        "failures::a_gap_that_another_thread_takes_is_left_to_it",
        taken_gap,
    ),
    (
        "failures::a_gap_in_an_arena_is_closed_or_left_to_its_taker",
        gap_in_an_arena,
    ),
    ("failures::the_seam_sees_every_call", the_seam_sees),
    (
        "failures::no_area_outlives_a_refusal_that_changed_nothing",
        refusal_that_changed_nothing,
    ),
    (
        "failures::no_area_outlives_the_limit_of_mappings",
        at_the_limit_of_mappings,
    ),
    (
        "failures::what_cannot_be_removed_is_kept_clear_of",
        blind_at_the_limit,
    ),
    (
        "failures::a_shared_mapping_in_a_gap_is_left_to_its_owner",
        shared_in_the_gap,
    ),
    (
        "failures::a_trial_mapping_that_stays_is_removed_later",
        trial_mapping_that_stays,
    ),
];

fn fault(after: usize, errno: i32) -> Fault {
    Fault {
        after,
        errno,
        harm: true,
        meanwhile: None,
    }
}

fn harmless(after: usize, errno: i32) -> Fault {
    Fault {
        harm: false,
        ..fault(after, errno)
    }
}

/// The existing mappings of our files.
fn files() -> Vec<Line> {
    let ours = |line: &Line| line.name.contains("memfd:bar");
    maps().into_iter().filter(ours).collect()
}

fn take_away(line: &Line) {
    let start = std::ptr::with_exposed_provenance_mut(usize::try_from(line.start).unwrap());
    let len = usize::try_from(line.end - line.start).unwrap();
    // SAFETY: an unused mapping of this test.
    unsafe { munmap(start, len) }.unwrap();
}

fn every_call() {
    for placement in PLACEMENTS {
        let file = File::new(BAR);
        let plan = plan(&holed(), placement);
        let (mapping, calls) = record(|| map(&file, &plan));
        drop(mapping.unwrap());
        assert!(calls.len() >= 4, "{calls:?}");
        let (mut failed, mut survived) = (0, 0);
        for (index, &call) in calls.iter().enumerate() {
            for errno in [libc::ENOMEM, libc::EPERM] {
                let (result, seen) = fail(fault(index, errno), || map(&file, &plan));
                assert!(seen.len() > index);
                match result {
                    Err(error) => {
                        failed += 1;
                        // Relaxing the alignment may end in success, so a failure has its errno.
                        assert_eq!(error.errno(), Some(errno), "{placement} {index}: {error}");
                    }
                    Ok(mapping) => {
                        // A refused hint, a trial mapping without room, a smaller alignment.
                        survived += 1;
                        mapping.write_u32(pages(7), 1).unwrap();
                    }
                }
                // What `munmap` refuses once is unmapped later.
                assert_eq!(leftovers(), [], "{placement} {index}: {call}");
                assert_eq!(files(), [], "{placement} {index}: {call}");
            }
        }
        assert!(
            failed > 0,
            "{placement}: {failed} failed, {survived} survived"
        );
    }
}

fn every_call_in_an_arena() {
    let file = File::new(BAR);
    let arena = Arena::new(3 * BAR);
    for placement in PLACEMENTS {
        let plan = plan(&holed(), placement);
        let map = || Mapping::new(&file, 0, &plan, arena.window(&plan)?, MapOptions::default());
        let (_, calls) = record(|| drop(map().unwrap()));
        for (index, &call) in calls.iter().enumerate() {
            let (_, seen) = fail(fault(index, libc::ENOMEM), || drop(map()));
            assert!(seen.len() > index);
            assert_eq!(leftovers(), [], "{placement} {index}: {call}");
            assert_eq!(files(), [], "{placement} {index}: {call}");
            let whole = reserved(arena.address(), arena.len as u64);
            assert!(whole, "{placement}, call {index}: {}", call);
        }
    }
}

fn every_call_of_into_window() {
    let file = File::new(BAR);
    let arena = Arena::new(3 * BAR);
    let plan = plan(&holed(), Placement::Congruent);
    for own in [true, false] {
        for index in 0..2 {
            let window = if own {
                Window::reserve(&plan)
            } else {
                arena.window(&plan)
            };
            let mapping = Mapping::new(&file, 0, &plan, window.unwrap(), MapOptions::default());
            let mapping = mapping.unwrap();
            let (result, _) = fail(fault(index, libc::ENOMEM), || {
                mapping.into_window().map(drop)
            });
            assert_eq!(result.unwrap_err().errno(), Some(libc::ENOMEM));
            assert!(reserved(arena.address(), arena.len as u64));
        }
    }
}

/// Another thread that maps a page of its own; it must stay.
struct Intruder;

impl Intruder {
    fn enter(address: u64) {
        let target = std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap());
        let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
        // SAFETY: replaces nothing.
        let got = unsafe {
            mmap_anonymous(
                target,
                page_size(),
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        };
        got.expect("the kernel left a gap");
    }

    /// Checks that it still exists, and unmaps it.
    fn leave(address: u64) {
        let line = at(address).expect("the other thread's page was unmapped");
        let found = (line.mode.as_str(), line.start);
        assert_eq!(found, ("rw-p", address), "replaced");
        take_away(&line);
    }
}

fn taken_gap() {
    let file = File::new(BAR);
    let plan = plan(&holed(), Placement::Congruent);
    let window = Window::reserve(&plan).unwrap();
    let (base, _) = window.blocks().next().unwrap();
    let gap = base.addr().get() as u64 + pages(7);
    let last = last_mmap(&file, &plan);
    let meanwhile: Option<Box<dyn FnOnce()>> = Some(Box::new(move || {
        Intruder::enter(gap);
    }));
    let fault = Fault {
        after: last,
        errno: libc::ENOMEM,
        harm: true,
        meanwhile,
    };
    let (result, _) = fail(fault, || {
        Mapping::new(&file, 0, &plan, window, MapOptions::default())
    });
    assert_eq!(result.unwrap_err().errno(), Some(libc::ENOMEM));
    Intruder::leave(gap);
}

/// The index of the last `mmap` in `Mapping::new`: that of the last area.
fn last_mmap(file: &File, plan: &Plan) -> usize {
    let window = Window::reserve(plan).unwrap();
    let new = || Mapping::new(file, 0, plan, window, MapOptions::default()).unwrap();
    let (mapping, calls) = record(new);
    drop(mapping);
    calls.iter().rposition(|name| *name == "mmap").unwrap()
}

fn gap_in_an_arena() {
    let file = File::new(BAR);
    let plan = plan(&holed(), Placement::Congruent);
    let last = last_mmap(&file, &plan);
    let arena = Arena::new(3 * BAR);
    for taken in [false, true] {
        let window = arena.window(&plan).unwrap();
        let (base, _) = window.blocks().next().unwrap();
        let gap = base.addr().get() as u64 + pages(7);
        let meanwhile: Option<Box<dyn FnOnce()>> = Some(Box::new(move || {
            if taken {
                Intruder::enter(gap);
            }
        }));
        let fault = Fault {
            after: last,
            errno: libc::ENOMEM,
            harm: true,
            meanwhile,
        };
        let new = || Mapping::new(&file, 0, &plan, window, MapOptions::default());
        assert!(fail(fault, new).0.is_err());
        if taken {
            assert_eq!(leftovers().len(), 1, "nothing goes over it");
            Intruder::leave(gap);
            drop(arena.window(&plan).unwrap());
        }
        assert_eq!(leftovers(), []);
        assert!(
            reserved(arena.address(), arena.len as u64),
            "the gap is closed"
        );
    }
}

fn the_seam_sees() {
    let file = File::new(BAR);
    let ((), calls) = record(|| drop(map(&file, &plan(&whole(), Placement::Congruent)).unwrap()));
    // Reserve, trim, ask for the kind of file, map on trial, map, advise twice, unmap. A reservation that happens to fit has
    // only a tail to trim.
    let trims = calls[1..].iter().take_while(|name| **name == "munmap");
    assert!((1..=2).contains(&trims.count()), "{calls:?}");
    let rest: Vec<_> = calls[1..]
        .iter()
        .skip_while(|name| **name == "munmap")
        .collect();
    let due = [
        "fstat", "mmap", "munmap", "mmap", "madvise", "madvise", "munmap",
    ];
    assert_eq!(calls[0], "mmap");
    assert_eq!(rest, due.iter().collect::<Vec<_>>());
}

/// A refusal that changes nothing is told from one that leaves a gap: no part of the file
/// stays mapped in either case. Addresses that might belong to another thread are given up.
fn refusal_that_changed_nothing() {
    let file = File::new(BAR);
    let plan = plan(&holed(), Placement::Congruent);
    for index in 0..2 {
        let mapping = map(&file, &plan).unwrap();
        let (result, _) = fail(harmless(index, libc::ENOMEM), || {
            mapping.into_window().map(drop)
        });
        assert!(result.is_err());
        assert_eq!(files(), [], "area {index}");
    }
    let arena = Arena::new(3 * BAR);
    let mapping = Mapping::new(
        &file,
        0,
        &plan,
        arena.window(&plan).unwrap(),
        MapOptions::default(),
    );
    let mapping = mapping.unwrap();
    let (_, calls) = fail(harmless(0, libc::ENOMEM), || drop(mapping));
    assert!(calls.len() >= 2, "{calls:?}");
    assert_eq!(files(), []);
    assert!(reserved(arena.address(), arena.len as u64));
}

/// The real thing: the kernel has no entry left for one more mapping.
fn at_the_limit_of_mappings() {
    let before = maps();
    let file = File::new(BAR);
    let plan = plan(&holed(), Placement::Congruent);
    let spare = map(&file, &plan).unwrap();
    let mapping = map(&file, &plan).unwrap();
    let Some(filler) = fill_up() else { return };
    // In success and failure, no part of the file may stay mapped.
    let failed = map(&file, &plan).is_err() && mapping.into_window().is_err();
    assert!(failed, "the kernel has no entry left");
    drop(spare);
    drop(filler);
    assert_eq!(files(), []);
    // It is unknown whether a reservation that could not be replaced is still ours: its
    // addresses are given up.
    let given_up = |line: &&Line| line.mode == "---p" && !before.contains(line);
    maps().iter().filter(given_up).for_each(take_away);
}

/// Makes mappings until the kernel allows no more; `None` if it allows too many to try.
fn fill_up() -> Option<(Arena, Vec<Arena>)> {
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let limit: u64 = limit.trim().parse().unwrap();
    if limit > 1 << 20 {
        println!("not tried: {limit} mappings take too long to make");
        return None;
    }
    // Every other page readable: a mapping for each page.
    let filler = Arena::new(pages(limit + 16));
    let mut page = filler.address();
    let readable = |page: u64| {
        let page = std::ptr::with_exposed_provenance_mut(usize::try_from(page).unwrap());
        // SAFETY: a page of the test's own arena.
        unsafe { rustix::mm::mprotect(page, page_size(), rustix::mm::MprotectFlags::READ) }
    };
    let end = filler.address() + filler.len as u64;
    while page < end && readable(page).is_ok() {
        page += pages(2);
    }
    assert!(page < end, "the limit is reached");
    // The kernel splits up to the limit, and maps once more beyond it.
    let mut more = Vec::with_capacity(8);
    let len = page_size();
    while more.len() < more.capacity() {
        let access = match more.len() % 2 {
            0 => ProtFlags::READ,
            _ => ProtFlags::WRITE,
        };
        // SAFETY: the kernel chooses free addresses.
        let page = unsafe { mmap_anonymous(std::ptr::null_mut(), len, access, MapFlags::PRIVATE) };
        match page.map(|page| NonNull::new(page.cast()).unwrap()) {
            Ok(base) => more.push(Arena { base, len }),
            Err(_) => return Some((filler, more)),
        }
    }
    panic!("the limit is reached");
}

/// Runs `body` while no file can be opened.
fn without_descriptors<T>(body: impl FnOnce() -> T) -> T {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..before
    };
    setrlimit(Resource::Nofile, none).unwrap();
    let result = body();
    setrlimit(Resource::Nofile, before).unwrap();
    result
}

/// With no entry left for a mapping, and `/proc` unreadable, the areas stay, nothing is placed over
/// them, and they are removed as soon as possible.
fn blind_at_the_limit() {
    for own in [false, true] {
        let file = File::new(BAR);
        let plan = plan(&holed(), Placement::Congruent);
        let arena = Arena::new(4 * BAR);
        let window = if own {
            Window::reserve(&plan).unwrap()
        } else {
            arena.window(&plan).unwrap()
        };
        let mapping = Mapping::new(&file, 0, &plan, window, MapOptions::default()).unwrap();
        let stuck: Vec<_> = mapping.areas().iter().map(|area| area.address()).collect();
        let Some(filler) = fill_up() else { return };
        without_descriptors(|| {
            // In an own window, only replacing the areas needs an entry.
            let refused = mapping.into_window().map(drop);
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::OutOfMemory);
            let left = leftovers();
            assert_eq!(left.len(), 2, "{left:?}");
            if !own {
                drop(filler);
                let again = arena.window(&plan).unwrap();
                let (start, len) = again.blocks().next().unwrap();
                let range = start.addr().get()..start.addr().get() + len;
                for (start, len) in left {
                    let end = start.addr().get() + len;
                    assert!(end <= range.start || range.end <= start.addr().get());
                }
            }
        });
        assert_eq!(leftovers(), [], "{stuck:x?}");
        assert_eq!(files(), []);
        if own {
            // The hole between the areas was free by then.
            continue;
        }
        assert!(reserved(arena.address(), arena.len as u64));
        let again = arena.window(&plan).unwrap();
        let again = Mapping::new(&file, 0, &plan, again, MapOptions::default()).unwrap();
        assert_eq!(again.areas()[0].address(), stuck[0], "it is free again");
    }
}

/// Another thread's mapping that exactly fills the gap is not ours, although it is also shared.
fn shared_in_the_gap() {
    let file = File::new(BAR);
    let plan = plan(&holed(), Placement::Congruent);
    for own in [false, true] {
        let arena = Arena::new(3 * BAR);
        let window = if own {
            Window::reserve(&plan).unwrap()
        } else {
            arena.window(&plan).unwrap()
        };
        let mapping = Mapping::new(&file, 0, &plan, window, MapOptions::default()).unwrap();
        let (gap, size) = (mapping.areas()[0].address(), mapping.areas()[0].area.size);
        let other = File::new(BAR);
        let meanwhile: Option<Box<dyn FnOnce()>> = Some(Box::new(move || {
            let target = std::ptr::with_exposed_provenance_mut(usize::try_from(gap).unwrap());
            let len = usize::try_from(size).unwrap();
            let (access, flags) = (
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::FIXED_NOREPLACE,
            );
            // SAFETY: replaces nothing.
            unsafe { rustix::mm::mmap(target, len, access, flags, &other, 0) }.unwrap();
        }));
        let fault = Fault {
            after: 0,
            errno: libc::ENOMEM,
            harm: true,
            meanwhile,
        };
        let (result, _) = fail(fault, || mapping.into_window().map(drop));
        assert!(result.is_err());
        let line = at(gap).expect("the other thread's mapping was unmapped");
        assert_eq!((line.mode.as_str(), line.end - line.start), ("rw-s", size));
        if !own {
            let again = arena.window(&plan).unwrap();
            let (start, _) = again.blocks().next().unwrap();
            assert!(start.addr().get() as u64 > gap, "nothing goes over it");
        }
        take_away(&line);
        if !own {
            drop(arena.window(&plan).unwrap());
        }
        assert_eq!(leftovers(), []);
    }
    assert_eq!(files(), []);
}

/// A trial mapping of a file that could not be unmapped.
fn trial_mapping_that_stays() {
    let file = File::new(BAR);
    let plan = plan(&holed(), Placement::Congruent);
    let window = || Window::reserve(&plan).unwrap();
    let new = |window| Mapping::new(&file, 0, &plan, window, MapOptions::default());
    let first = window();
    let (mapping, calls) = record(|| new(first));
    drop(mapping.unwrap());
    let unmap = calls.iter().position(|name| *name == "munmap").unwrap();
    let second = window();
    let (result, _) = fail(fault(unmap, libc::ENOMEM), || new(second));
    assert_eq!(result.unwrap_err().errno(), Some(libc::ENOMEM));
    assert_eq!(leftovers(), []);
    assert_eq!(files(), []);
}
