//! Gives the BARs of programs that do not use hugebar large pages: a library for `LD_PRELOAD`, which `hugebar run`
//! sets.
//!
//! It replaces `mmap` and `mmap64`. A mapping of a VFIO device that lets the kernel choose the address gets one that is
//! congruent with the region, and each such mapping gets `MADV_HUGEPAGE` before anything touches it. Every other call
//! goes on as it came. Nothing is remembered about mappings, so later calls of the program (`munmap`, `mremap`,
//! `fork`) cannot contradict it.
//!
//! It runs inside other programs, at any time: in signal handlers, in all threads, under filters of system calls. So it
//! allocates nothing, takes no lock and cannot panic. Built with `--release` it is without `std`, and a test lists
//! the few functions of libc that it imports. Other profiles have no other way to handle panics than `std`, of which nothing
//! runs but its constructor.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(test, allow(dead_code, reason = "tests do not replace mmap"))]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers go to the kernel in registers of 64 bits, whatever their sign"
)]
#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[cfg(all(not(test), panic = "unwind"))]
extern crate std as _;

mod call;
mod device;
mod exports;
// The library's own file, so that the kernel's rule is stated once. As a dependency it would come with `std`.
#[path = "../../hugebar/src/leaf.rs"]
#[allow(
    dead_code,
    unexpected_cfgs,
    unreachable_pub,
    reason = "written for a library"
)]
mod leaf;
mod line;
mod map;
mod place;
mod report;
mod start;

/// Never called; the test of what the library imports would show it.
#[cfg(all(not(test), panic = "abort"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
