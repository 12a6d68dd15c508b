//! Names the shared library as programs look for it, whoever builds it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // As in lab/src/capi.rs, which installs the file under this name.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libhugebar.so.0");
}
