//! `hugebar run` on arm64, with a program that knows nothing of it.

use std::collections::BTreeMap;
use std::path::Path;

use hugebar_lab::{Arch, HostFile, Output};
use serde_json::Value;

/// A program that maps a BAR without hugebar, and what `hugebar run` needs for it.
pub(crate) fn plain_program(folder: &Path) -> Vec<HostFile> {
    let plain = folder.join("plain");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/c/plain.c");
    hugebar_lab::compile_c(Arch::Arm64, &source, &plain).unwrap();
    let (package, name) = ("hugebar-preload", "hugebar_preload");
    let library = hugebar_lab::shared_library_for(Arch::Arm64, package, name, "release");
    let mut files = vec![
        HostFile {
            host: plain,
            guest: None,
        },
        HostFile {
            host: library.unwrap(),
            guest: Some("/bin/".into()),
        },
    ];
    files.extend(hugebar_lab::shared_c_library());
    files
}

/// A program that maps the whole BAR wherever `mmap` puts it has the fewest leaves.
pub(crate) fn check(plain: &Output, reported: &Output, leaves: [(u64, u64); 2]) {
    assert!(plain.success(), "{plain:?}");
    let [(largest, count), _] = leaves;
    let said = plain.stdout();
    assert!(said.ends_with(&format!(": {count} faults\n")), "{said}");
    let line: Value = serde_json::from_str(&reported.stdout()).unwrap();
    assert_eq!(line["chosen_by"], "hugebar", "{line}");
    let possible: BTreeMap<u64, u64> = serde_json::from_value(line["possible"].clone()).unwrap();
    assert_eq!(possible, BTreeMap::from(leaves), "{line}");
    let address = line["address"].as_str().unwrap().trim_start_matches("0x");
    assert_eq!(u64::from_str_radix(address, 16).unwrap() % largest, 0);
    println!("{}", said.trim_end());
}
