//! `include/hugebar.h` is the header of this crate's functions.

use std::path::Path;
use std::{env, fs};

use cbindgen::{Builder, Config};

/// The files in the order in which their functions are to be read.
const FILES: [&str; 13] = [
    "error",
    "leaf",
    "device",
    "plan",
    "window",
    "map",
    "access",
    "reason",
    "report",
    "dma",
    "interrupts",
    "config",
    "reset",
];

/// Files without functions for C.
const OTHERS: [&str; 3] = ["argument", "handle", "lib"];

#[test]
fn the_header_is_that_of_the_functions() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in fs::read_dir(own.join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(FILES.contains(&name) || OTHERS.contains(&name), "{name}");
        let exports = fs::read_to_string(&path).unwrap().contains("no_mangle");
        assert_eq!(exports, FILES.contains(&name), "{name}");
    }

    let config = Config::from_file(own.join("cbindgen.toml")).unwrap();
    let files = FILES.iter();
    let builder = files.fold(Builder::new(), |builder, file| {
        builder.with_src(own.join(format!("src/{file}.rs")))
    });
    let mut made = Vec::new();
    let bindings = builder.with_config(config).generate().unwrap();
    bindings.write(&mut made);
    let made = String::from_utf8(made).unwrap();

    let path = own.join("include/hugebar.h");
    if env::var_os("HUGEBAR_UPDATE_HEADER").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        made == committed,
        "the functions have changed; after an intended change run\n  \
         HUGEBAR_UPDATE_HEADER=1 cargo test -p hugebar-capi --test header"
    );
}
