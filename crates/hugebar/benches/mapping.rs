//! The cost of mapping and unmapping, beside the bare system calls that it takes, for one area and for nine.
//!
//! `cargo bench -p hugebar --bench mapping` prints the times, and fails if the library takes more than 1.5 times as long
//! as its calls.

#![allow(unsafe_code, reason = "the bare calls for comparison")]

use std::ffi::c_void;
use std::hint::black_box;
use std::os::fd::OwnedFd;

use hugebar::layout::Area;
use hugebar::leaf::GIB;
use hugebar::mem::{MapOptions, Mapping, Window};
use hugebar::plan::Plan;
use rustix::mm::{Advice, MapFlags, ProtFlags};

mod shared;

/// Size of the file that represents a BAR, in bytes.
const SIZE: u64 = 4 * GIB;
const HOLES: [u64; 2] = [0, 8];
/// Mappings in a round.
const CALLS: u32 = 8;

fn library(file: &OwnedFd, plan: &Plan) {
    let window = Window::reserve(plan).expect("addresses");
    let mapping = Mapping::new(file, 0, plan, window, MapOptions::default());
    drop(black_box(mapping.expect("a mapping")));
}

fn bytes(number: u64) -> usize {
    usize::try_from(number).expect("64 bits")
}

/// The calls of `library`, as the test `calls::of_a_mapping` counts them, and nothing else.
fn bare(file: &OwnedFd, areas: &[Area]) {
    let (size, gib) = (bytes(SIZE), bytes(GIB));
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let null = std::ptr::null_mut::<c_void>;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: replaces nothing.
    let base = unsafe { rustix::mm::mmap_anonymous(null(), size + gib, ProtFlags::empty(), flags) };
    let base = base.expect("mmap").cast::<u8>();
    let head = base.addr().next_multiple_of(gib) - base.addr();
    // SAFETY: these addresses were just reserved.
    let start = unsafe { base.add(head) };
    // SAFETY: as above.
    let rest = unsafe { start.add(size) };
    for (address, len) in [(base, head), (rest, gib - head)] {
        if len > 0 {
            // SAFETY: an unused part of the reservation.
            unsafe { rustix::mm::munmap(address.cast(), len) }.expect("munmap");
        }
    }
    black_box(rustix::fs::fstat(file).expect("fstat"));
    for area in areas {
        let (len, offset) = (bytes(area.size), area.offset);
        // SAFETY: replaces nothing.
        let trial =
            unsafe { rustix::mm::mmap(null(), len, access, MapFlags::SHARED, file, offset) };
        // SAFETY: the mapping was just made.
        unsafe { rustix::mm::munmap(trial.expect("mmap"), len) }.expect("munmap");
    }
    for area in areas {
        let (len, offset) = (bytes(area.size), area.offset);
        // SAFETY: areas lie in the reservation.
        let address = unsafe { start.add(bytes(offset)) }.cast();
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: over a part of the reservation.
        let mapped = unsafe { rustix::mm::mmap(address, len, access, flags, file, offset) };
        mapped.expect("mmap");
        for advice in [Advice::LinuxDontFork, Advice::LinuxHugepage] {
            // SAFETY: the mapping was just made.
            let advised = unsafe { rustix::mm::madvise(address, len, advice) };
            // A kernel without THP refuses the hint.
            let _ = black_box(advised);
        }
    }
    // SAFETY: all of it is ours, and no longer used.
    unsafe { rustix::mm::munmap(start.cast(), size) }.expect("munmap");
}

#[divan::bench(args = HOLES)]
fn bare_calls(bencher: divan::Bencher<'_, '_>, holes: u64) {
    let (file, plan) = (shared::file(SIZE), shared::plan(SIZE, holes));
    bencher.bench_local(|| bare(&file, plan.layout().areas()));
}

#[divan::bench(args = HOLES)]
fn by_the_library(bencher: divan::Bencher<'_, '_>, holes: u64) {
    let (file, plan) = (shared::file(SIZE), shared::plan(SIZE, holes));
    bencher.bench_local(|| library(&file, &plan));
}

fn main() {
    divan::main();
    for holes in HOLES {
        let (file, plan) = (shared::file(SIZE), shared::plan(SIZE, holes));
        let areas = plan.layout().areas();
        let (bare, library) = shared::shortest(
            || (0..CALLS).for_each(|_| bare(&file, areas)),
            || (0..CALLS).for_each(|_| library(&file, &plan)),
        );
        let ratio = library.as_secs_f64() / bare.as_secs_f64();
        println!("{holes} holes: mapping takes {ratio:.2} times as long as its bare system calls");
        assert!(ratio <= 1.5, "{library:?} for {bare:?}");
    }
}
