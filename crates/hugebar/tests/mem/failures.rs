//! Every system call fails once, and nothing is lost, leaked or taken from another thread.

use hugebar::mem::{MapOptions, Mapping, Window};
use hugebar::plan::{Placement, Plan};
use hugebar::seam::{Fault, fail, record};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::arena::Arena;
use crate::maps::{File, Line, at, maps, reserved};
use crate::{BAR, PLACEMENTS, holed, map, plan, whole};

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

/// The mappings of files of ours that there are.
fn files() -> Vec<Line> {
    let ours = |line: &Line| line.name.contains("memfd:bar");
    maps().into_iter().filter(ours).collect()
}

/// What `munmap` itself refuses to give back stays: at most the one mapping that it was called for.
fn mend(call: &str) {
    let left = files();
    if call == "munmap" {
        assert!(left.len() <= 1, "{left:?}");
        left.iter().for_each(take_away);
    }
}

fn take_away(line: &Line) {
    let start = std::ptr::with_exposed_provenance_mut(usize::try_from(line.start).unwrap());
    let len = usize::try_from(line.end - line.start).unwrap();
    // SAFETY: a mapping of this test's that nobody uses.
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
                        // A hint that was not taken, a rehearsal without room, a smaller alignment.
                        survived += 1;
                        mapping.write_u32(0x7000, 1).unwrap();
                    }
                }
                mend(call);
                assert_eq!(files(), [], "{placement} {index}: {}", call);
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
            mend(call);
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
        let got =
            unsafe { mmap_anonymous(target, 4096, ProtFlags::READ | ProtFlags::WRITE, flags) };
        got.expect("the kernel left a gap");
    }

    /// Checks that it is still there, and takes it away.
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
    let gap = base.addr().get() as u64 + 0x7000;
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

/// Which call of `Mapping::new` is the last `mmap`: that of the last area.
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
        let gap = base.addr().get() as u64 + 0x7000;
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
            Intruder::leave(gap);
        } else {
            assert!(
                reserved(arena.address(), arena.len as u64),
                "the gap is closed"
            );
        }
    }
}

fn the_seam_sees() {
    let file = File::new(BAR);
    let ((), calls) = record(|| drop(map(&file, &plan(&whole(), Placement::Congruent)).unwrap()));
    // Reserve, trim, ask for the kind of file, rehearse, map, two pieces of advice, unmap. A reservation that happens to fit has
    // only a tail to trim.
    let trims = calls[1..].iter().take_while(|name| **name == "munmap");
    assert!((1..=2).contains(&trims.count()), "{calls:?}");
    let rest: Vec<_> = calls[1..]
        .iter()
        .skip_while(|name| **name == "munmap")
        .collect();
    let due = [
        "fstatfs", "mmap", "munmap", "mmap", "madvise", "madvise", "munmap",
    ];
    assert_eq!(calls[0], "mmap");
    assert_eq!(rest, due.iter().collect::<Vec<_>>());
}

/// A refusal that leaves everything as it was is told from one that leaves a gap: nothing of the file
/// stays mapped, here or there. Addresses that might be another thread's are given up.
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
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let limit: u64 = limit.trim().parse().unwrap();
    if limit > 1 << 20 {
        println!("not tried: {limit} mappings take too long to make");
        return;
    }
    // Every other page readable: a mapping for each page.
    let filler = Arena::new((limit + 16) * 4096);
    let mut page = filler.address();
    let readable = |page: u64| {
        let page = std::ptr::with_exposed_provenance_mut(usize::try_from(page).unwrap());
        // SAFETY: a page of the test's own arena.
        unsafe { rustix::mm::mprotect(page, 4096, rustix::mm::MprotectFlags::READ) }
    };
    let end = filler.address() + filler.len as u64;
    while page < end && readable(page).is_ok() {
        page += 8192;
    }
    assert!(page < end, "the limit is reached");
    // Whether it works out or not, nothing of the file may stay.
    let failed = map(&file, &plan).is_err() && mapping.into_window().is_err();
    assert!(failed, "the kernel has no entry left");
    drop(spare);
    drop(filler);
    assert_eq!(files(), []);
    // Of a reservation that could not be replaced nobody can tell whether it is still ours: its
    // addresses are given up.
    let given_up = |line: &&Line| line.mode == "---p" && !before.contains(line);
    maps().iter().filter(given_up).for_each(take_away);
}
