//! Reads of sysfs that several subjects need.

use std::fs;
use std::path::{Path, PathBuf};

use hugebar::pci::Function;

/// The names in a folder, sorted; none if it is missing or cannot be read.
pub(crate) fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Whether a module's parameter is on (`/sys/module/MODULE/parameters/NAME`).
pub(crate) fn is_on(module: &str, parameter: &str) -> bool {
    let path = format!("/sys/module/{module}/parameters/{parameter}");
    fs::read_to_string(path).is_ok_and(|text| matches!(text.trim(), "Y" | "1"))
}

/// The path of a function's file (`/sys/bus/pci/devices/ADDRESS/NAME`), or of its folder for an empty name.
pub(crate) fn of(function: &Function, name: &str) -> PathBuf {
    function.folder().join(name)
}
