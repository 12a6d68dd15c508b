//! Windows and mappings of memory files on this host, checked in `/proc/self/maps`.

#![allow(
    unsafe_code,
    reason = "plays the other thread, and the owner of an arena"
)]

mod access;
mod arena;
mod bar;
mod calls;
mod failures;
mod maps;
mod place;

use libtest_mimic::{Arguments, Trial};

use bar::{plan, whole};
use hugebar::mem::Window;
use hugebar::plan::Placement;
use maps::unchanged;

fn main() {
    let tests: Vec<(&str, fn())> = [
        place::TESTS,
        access::TESTS,
        arena::TESTS,
        calls::TESTS,
        failures::TESTS,
    ]
    .concat();
    let trial = |(name, test): (&'static str, fn())| {
        Trial::test(name, move || {
            unchanged(test);
            Ok(())
        })
    };
    // The page that distinguishes processes is made once and stays.
    drop(Window::reserve(&plan(&whole(), Placement::Congruent)));
    let mut arguments = Arguments::from_args();
    // On the main thread, one after another: no other thread changes the address space meanwhile.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect()).exit();
}
