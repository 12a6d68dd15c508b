//! Checks the structure of all crates from their source: files have no import cycles, rooms import only rooms below
//! them, and `unsafe` is only where it is allowed.

mod circles;
mod imports;
mod order;
mod tree;
mod unsafety;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tree::{MEMBERS, Tree, workspace};

/// Otherwise the tests below would miss files.
#[test]
fn every_file_is_read() {
    let tree = Tree::read();
    let mut missing = Vec::new();
    for member in MEMBERS {
        for folder in ["src", "tests", "examples", "benches"] {
            collect(&Path::new(member).join(folder), &mut missing);
        }
    }
    assert!(missing.len() > 150, "{}", missing.len());
    missing.retain(|file| !tree.files.contains_key(file));
    assert!(missing.is_empty(), "{missing:?} are in no crate");
    let manifest = std::fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    let members = manifest
        .lines()
        .find(|line| line.starts_with("members = "))
        .unwrap();
    assert_eq!(members.matches('"').count(), 2 * MEMBERS.len(), "{members}");
    assert!(
        MEMBERS
            .iter()
            .all(|member| members.contains(&format!("{member:?}")))
    );
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(workspace().join(folder));
    for entry in entries.into_iter().flatten() {
        let path = folder.join(entry.unwrap().file_name());
        if workspace().join(&path).is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn no_two_files_know_one_another() {
    let tree = Tree::read();
    let found = circles::find(&imports::read(&tree));
    assert!(found.is_empty(), "import cycles: {found:#?}");
}

#[test]
fn rooms_know_only_those_below_them() {
    let tree = Tree::read();
    let floors = order::read();
    let mut climbs = BTreeSet::new();
    let mut rooms = BTreeSet::new();
    for (file, known) in imports::read(&tree) {
        let Some(own) = order::room(&file, &MEMBERS) else {
            continue;
        };
        // The order is stated for the crates that have one.
        if !floors.keys().any(|room| room.0 == own.0) {
            continue;
        }
        let floor = floors.get(&own);
        let floor = floor.unwrap_or_else(|| panic!("ARCHITECTURE.md has no room {own:?}"));
        rooms.insert(own.clone());
        for other in known.iter().filter_map(|file| order::room(file, &MEMBERS)) {
            if other.0 == own.0 && other != own && floors[&other] >= *floor {
                climbs.insert((format!("{}/{}", own.0, own.1), other.1));
            }
        }
    }
    let named: BTreeSet<_> = floors.keys().cloned().collect();
    assert_eq!(
        named, rooms,
        "the rooms of ARCHITECTURE.md, and the actual ones"
    );
    assert!(
        climbs.is_empty(),
        "rooms that import one above or beside them: {climbs:#?}"
    );
}
