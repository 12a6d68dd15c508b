//! Import cycles: files that import one another, directly or through others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::imports::Imports;

/// A cycle: files that can all reach one another.
pub(crate) type Circle = BTreeSet<PathBuf>;

/// All maximal cycles.
pub(crate) fn find(imports: &Imports) -> BTreeSet<Circle> {
    let reached: BTreeMap<_, _> = imports
        .keys()
        .map(|file| (file, reached_from(imports, file)))
        .collect();
    let circle = |file: &PathBuf| -> Circle {
        let back = |other: &&PathBuf| reached.get(other).is_some_and(|files| files.contains(file));
        reached[file].iter().filter(back).cloned().collect()
    };
    let circles = imports.keys().map(circle);
    circles.filter(|circle| !circle.is_empty()).collect()
}

/// The files that a file reaches through imports; itself only if it is in a cycle.
fn reached_from(imports: &Imports, file: &Path) -> BTreeSet<PathBuf> {
    let mut reached = BTreeSet::new();
    let mut open = vec![file];
    while let Some(file) = open.pop() {
        for next in imports.get(file).into_iter().flatten() {
            if reached.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    reached
}

#[test]
fn circles_are_found_whatever_is_between() {
    let path = |name: &str| PathBuf::from(name);
    let arrows = |names: &[&str]| names.iter().map(|name| path(name)).collect();
    let imports = Imports::from([
        (path("a"), arrows(&["b", "e"])),
        (path("b"), arrows(&["c"])),
        (path("c"), arrows(&["a", "d"])),
        (path("d"), arrows(&["e"])),
        (path("e"), arrows(&[])),
        (path("f"), arrows(&["a"])),
    ]);
    let circle: Circle = arrows(&["a", "b", "c"]);
    assert_eq!(find(&imports), BTreeSet::from([circle]));
}
