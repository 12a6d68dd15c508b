//! The way the house is built: no two files know one another, rooms know only those below them, and `unsafe` lies
//! where it may. Read from the source of all crates.

mod circles;
mod imports;
mod order;
mod tree;
mod unsafety;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use circles::Circle;
use tree::{MEMBERS, Tree, workspace};

/// Circles that are there still, and why. One that is gone has to be taken off the list.
const KNOWN_CIRCLES: &[(&[&str], &str)] = &[
    (
        &[
            "crates/hugebar/src/census/count.rs",
            "crates/hugebar/src/census/mod.rs",
        ],
        "a count calls back with the progress that the census defines",
    ),
    (
        &[
            "crates/hugebar/src/kvm/guest.rs",
            "crates/hugebar/src/kvm/populate.rs",
        ],
        "the machine that never runs is populated, and populating needs a machine",
    ),
    (
        &[
            "crates/hugebar/src/mem/mapping.rs",
            "crates/hugebar/src/mem/window/mod.rs",
        ],
        "a mapping is made of a window, which knows the areas mapped in it by the mapping's type",
    ),
    (
        &[
            "crates/hugebar/src/vfio/container.rs",
            "crates/hugebar/src/vfio/group.rs",
        ],
        "a group keeps its container, which attaches groups and closes them",
    ),
    (
        &[
            "crates/hugebar/tests/mem/access.rs",
            "crates/hugebar/tests/mem/arena.rs",
            "crates/hugebar/tests/mem/failures.rs",
            "crates/hugebar/tests/mem/main.rs",
            "crates/hugebar/tests/mem/place.rs",
        ],
        "the program that runs the tests also has the helpers that they share",
    ),
];

/// Rooms that know one that is not below them, and why. As above.
const KNOWN_CLIMBS: &[(&str, &str, &str)] = &[];

/// Otherwise there would be files that nothing below looks at.
#[test]
fn every_file_is_read() {
    let tree = Tree::read();
    let mut missing = Vec::new();
    for member in MEMBERS {
        for folder in ["src", "tests", "examples"] {
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
    let known: BTreeSet<Circle> = KNOWN_CIRCLES
        .iter()
        .map(|(files, _)| files.iter().map(PathBuf::from).collect())
        .collect();
    let new: Vec<_> = found.difference(&known).collect();
    assert!(new.is_empty(), "circles: {new:#?}");
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(gone.is_empty(), "take off the list: {gone:#?}");
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
        "the rooms of ARCHITECTURE.md, and those there are"
    );
    let known: BTreeSet<_> = KNOWN_CLIMBS
        .iter()
        .map(|(room, other, _)| ((*room).to_owned(), (*other).to_owned()))
        .collect();
    let new: Vec<_> = climbs.difference(&known).collect();
    assert!(
        new.is_empty(),
        "rooms that know one above or beside them: {new:#?}"
    );
    let gone: Vec<_> = known.difference(&climbs).collect();
    assert!(gone.is_empty(), "take off the list: {gone:#?}");
}
