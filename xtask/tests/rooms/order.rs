//! The order of rooms as ARCHITECTURE.md states it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::tree::workspace;

/// A room: a crate's folder, and the first name below its `src`.
pub(crate) type Room = (String, String);

/// Each room with its floor: a room may import rooms of its crate on lower floors.
pub(crate) fn read() -> BTreeMap<Room, usize> {
    let text = fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    parse(&text)
}

/// Parses the block that is fenced with the word `rooms`. A crate's folder begins a list, which continues in
/// indented lines. `<` separates floors, from the lowest to the highest.
fn parse(text: &str) -> BTreeMap<Room, usize> {
    let (_, block) = text.split_once("```rooms\n").expect("a list of rooms");
    let (block, _) = block.split_once("```").expect("its end");
    let mut rooms = BTreeMap::new();
    let (mut own, mut floor) = (String::new(), 0);
    for line in block.lines() {
        let list = match line.strip_prefix(' ') {
            Some(list) => list,
            None => {
                let (folder, list) = line.split_once(':').expect("a crate");
                (own, floor) = (folder.to_owned(), 0);
                list
            }
        };
        for word in list.split_ascii_whitespace() {
            if word == "<" {
                floor += 1;
                continue;
            }
            let room = (own.clone(), word.to_owned());
            assert!(
                rooms.insert(room, floor).is_none(),
                "{own} has {word} twice"
            );
        }
    }
    rooms
}

/// The room of a file; `None` for a crate's root, which may import all rooms, and for tests, examples and benchmarks.
pub(crate) fn room(file: &Path, members: &[&str]) -> Option<Room> {
    // The longest match: `lab/guest` lies in `lab`.
    let member = members
        .iter()
        .filter(|member| file.starts_with(member))
        .max_by_key(|member| member.len())?;
    let inside = file.strip_prefix(member).ok()?.strip_prefix("src").ok()?;
    let name = Path::new(inside.iter().next()?).file_stem()?.to_str()?;
    let is_root = matches!(name, "lib" | "main" | "bin");
    (!is_root).then(|| ((*member).to_owned(), name.to_owned()))
}

#[test]
fn floors_go_up_and_begin_anew_in_each_crate() {
    let text = "x\n```rooms\na/b: one two < three\n     < four\nc: five\n```\n";
    let room = |own: &str, name: &str| (own.to_owned(), name.to_owned());
    let expected = [
        (room("a/b", "one"), 0),
        (room("a/b", "two"), 0),
        (room("a/b", "three"), 1),
        (room("a/b", "four"), 2),
        (room("c", "five"), 0),
    ];
    assert_eq!(parse(text), BTreeMap::from(expected));
}

#[test]
fn rooms_are_files_and_folders_of_a_crate() {
    let room = |file: &str| room(Path::new(file), &["a", "a/b"]);
    let named = |own: &str, name: &str| Some((own.to_owned(), name.to_owned()));
    assert_eq!(room("a/src/one.rs"), named("a", "one"));
    assert_eq!(room("a/src/two/mod.rs"), named("a", "two"));
    assert_eq!(room("a/b/src/two/deep/file.rs"), named("a/b", "two"));
    for none in [
        "a/src/lib.rs",
        "a/tests/x.rs",
        "a/b/src/bin/x/main.rs",
        "c/src/x.rs",
    ] {
        assert_eq!(room(none), None, "{none}");
    }
}
