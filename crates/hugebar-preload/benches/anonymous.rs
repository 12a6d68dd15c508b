//! What the preloaded library costs a program that maps and unmaps anonymous memory.
//!
//! `cargo bench -p hugebar-preload --bench anonymous` builds the library as in a release, starts itself again with it, and compares
//! the library's `mmap` with libc's own in one process. It fails if a loop with the library takes more than 1.05 times as
//! long, or if the library imports anything that it may not use.

#![allow(unsafe_code, reason = "calls mmap of libc and of the library")]

use std::collections::BTreeSet;
use std::env;
use std::ffi::{CStr, c_int, c_void};
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::ptr;
use std::time::{Duration, Instant};

use object::{Object, ObjectSymbol};

type Mmap = unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, c_int, i64) -> *mut c_void;

/// All that the library may take from libc, without the weak symbols of every shared library.
const IMPORTS: [&str; 6] = [
    "__errno_location",
    "dlsym",
    "getenv",
    "memcpy",
    "memset",
    "strlen",
];

/// Mappings in a round.
const MAPPINGS: u32 = 2000;
const ROUNDS: u32 = 400;
const LIMIT: f64 = 1.05;

fn main() {
    match env::args().nth(1).as_deref() {
        Some("preloaded") => compare(),
        _ => {
            let library = build();
            check_imports(&library);
            let own = env::current_exe().expect("this program");
            let status = Command::new(own)
                .arg("preloaded")
                .env("LD_PRELOAD", library)
                .status();
            assert!(status.expect("this program").success());
        }
    }
}

/// Builds the library, and returns its path.
fn build() -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--release", "-p", "hugebar-preload"])
        .status();
    assert!(built.expect("cargo").success());
    // This program is in target/release/deps.
    let own = env::current_exe().expect("this program");
    let folder = own.ancestors().nth(2).expect("target/release");
    folder.join("libhugebar_preload.so")
}

fn check_imports(library: &PathBuf) {
    let bytes = std::fs::read(library).expect("the library");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let imports = file
        .dynamic_symbols()
        .filter(|symbol| symbol.is_undefined() && !symbol.is_weak());
    let names: BTreeSet<_> = imports
        .filter_map(|symbol| symbol.name().ok().filter(|name| !name.is_empty()))
        .map(str::to_owned)
        .collect();
    let others: Vec<_> = names
        .iter()
        .filter(|name| !IMPORTS.contains(&name.as_str()))
        .collect();
    println!("the library imports {names:?}");
    assert!(others.is_empty(), "unexpected: {others:?}");
    assert!(names.contains("dlsym"), "{names:?}");
}

/// `mmap` of the program, or of the libraries after a certain one.
fn found(library: *mut c_void) -> Mmap {
    // SAFETY: the name ends with a zero.
    let found = unsafe { libc::dlsym(library, c"mmap".as_ptr()) };
    assert!(!found.is_null());
    // SAFETY: `mmap` has this type.
    unsafe { std::mem::transmute::<*mut c_void, Mmap>(found) }
}

fn round(mmap: Mmap) -> Duration {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let begin = Instant::now();
    for _ in 0..MAPPINGS {
        // SAFETY: the kernel chooses addresses that were free.
        let mapped = unsafe { mmap(ptr::null_mut(), 4096, libc::PROT_READ, flags, -1, 0) };
        assert_ne!(black_box(mapped), libc::MAP_FAILED);
        // SAFETY: nothing uses the mapping.
        unsafe { libc::munmap(mapped, 4096) };
    }
    begin.elapsed()
}

/// Where a function is.
fn file_of(function: Mmap) -> String {
    // SAFETY: all zeroes are a valid structure.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: libc fills in the structure.
    let known = unsafe { libc::dladdr(function as *const c_void, &raw mut info) };
    assert!(known != 0 && !info.dli_fname.is_null());
    // SAFETY: libc gives the path of a loaded library.
    let path = unsafe { CStr::from_ptr(info.dli_fname) };
    path.to_string_lossy().into_owned()
}

fn compare() {
    let with = found(libc::RTLD_DEFAULT);
    // SAFETY: libc is loaded already.
    let libc_itself =
        unsafe { libc::dlopen(c"libc.so.6".as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    assert!(!libc_itself.is_null());
    let without = found(libc_itself);
    assert!(
        file_of(with).ends_with("/libhugebar_preload.so"),
        "{}",
        file_of(with)
    );
    assert!(file_of(without).contains("libc.so"), "{}", file_of(without));
    // The shortest of many alternating rounds, so that other load affects both.
    let (mut least_with, mut least_without) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        least_with = least_with.min(round(with));
        least_without = least_without.min(round(without));
    }
    let ratio = least_with.as_secs_f64() / least_without.as_secs_f64();
    println!("mmap and munmap of anonymous memory take {ratio:.3} times as long with the library");
    assert!(ratio <= LIMIT, "{least_with:?} for {least_without:?}");
}
