//! The cost of a register access, beside a bare volatile one, with any number of holes in the mapping.
//!
//! `cargo bench -p hugebar --bench register` prints the times, and fails if a register that was checked once
//! takes more than 1.2 times as long as the bare access.

#![allow(unsafe_code, reason = "the bare access for comparison")]

use std::hint::black_box;
use std::ptr::NonNull;

use hugebar::leaf::MIB;
use hugebar::mem::{MapOptions, Mapping, Register, Window};

mod shared;

/// Size of the file that represents a BAR, in bytes.
const SIZE: u64 = 4 * MIB;
/// Offset of the register, after all holes.
const OFFSET: u64 = SIZE - 0x1000;
/// Accesses in a round.
const ACCESSES: u32 = 1 << 16;
const HOLES: [u64; 3] = [0, 1, 8];

fn map(holes: u64) -> Mapping {
    let plan = shared::plan(SIZE, holes);
    let window = Window::reserve(&plan).expect("addresses");
    let mapping = Mapping::new(shared::file(SIZE), 0, &plan, window, MapOptions::default())
        .expect("a mapping");
    mapping.write_u32(OFFSET, 1).expect("a register");
    mapping
}

fn bare(address: NonNull<u32>) -> u32 {
    let mut sum = 0_u32;
    let address = black_box(address);
    for _ in 0..ACCESSES {
        // SAFETY: the address of a word in a mapping that outlives these calls.
        sum = sum.wrapping_add(unsafe { address.read_volatile() });
    }
    sum
}

fn checked_once(register: Register<'_, u32>) -> u32 {
    let mut sum = 0_u32;
    let register = black_box(register);
    for _ in 0..ACCESSES {
        sum = sum.wrapping_add(register.read());
    }
    sum
}

fn checked_each_time(mapping: &Mapping) -> u32 {
    let mut sum = 0_u32;
    let offset = black_box(OFFSET);
    for _ in 0..ACCESSES {
        sum = sum.wrapping_add(mapping.read_u32(offset).unwrap_or_default());
    }
    sum
}

fn address(mapping: &Mapping) -> NonNull<u32> {
    mapping.pointer(OFFSET, 4).expect("a register").cast()
}

#[divan::bench(args = HOLES, counters = [divan::counter::ItemsCount::new(ACCESSES)])]
fn bare_volatile_read(bencher: divan::Bencher<'_, '_>, holes: u64) {
    let mapping = map(holes);
    bencher.bench_local(|| bare(address(&mapping)));
}

#[divan::bench(args = HOLES, counters = [divan::counter::ItemsCount::new(ACCESSES)])]
fn register_read(bencher: divan::Bencher<'_, '_>, holes: u64) {
    let mapping = map(holes);
    let register = mapping.register(OFFSET).expect("a register");
    bencher.bench_local(|| checked_once(register));
}

#[divan::bench(args = HOLES, counters = [divan::counter::ItemsCount::new(ACCESSES)])]
fn mapping_read(bencher: divan::Bencher<'_, '_>, holes: u64) {
    let mapping = map(holes);
    bencher.bench_local(|| checked_each_time(&mapping));
}

fn main() {
    divan::main();
    for holes in HOLES {
        let mapping = map(holes);
        let register = mapping.register(OFFSET).expect("a register");
        let (bare, once) = shared::shortest(
            || _ = black_box(bare(address(&mapping))),
            || _ = black_box(checked_once(register)),
        );
        let ratio = once.as_secs_f64() / bare.as_secs_f64();
        println!(
            "{holes} holes: a register takes {ratio:.2} times as long as a bare volatile read"
        );
        assert!(ratio <= 1.2, "{once:?} for {bare:?}");
    }
}
