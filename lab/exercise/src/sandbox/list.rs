//! The lists of docs/system-calls.md, to which steps are confined.

use anyhow::{Result, ensure};

/// The document, which defines what is allowed.
const DOCUMENT: &str = include_str!("../../../../docs/system-calls.md");

/// What one step needs.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    pub(super) title: String,
    /// System calls and, in capitals, requests of `ioctl`.
    pub(super) calls: Vec<String>,
    pub(super) files: Vec<Item>,
}

/// A file or folder, which may have `ADDRESS`, `GROUP` and `N` in its path.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) path: String,
    pub(super) access: Access,
    /// The step succeeds without it.
    pub(super) optional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    ReadWrite,
    /// Listing a folder.
    List,
}

/// The lists of the document, each with its heading.
pub(super) fn all() -> Result<Vec<List>> {
    let lists = parse(DOCUMENT)?;
    ensure!(!lists.is_empty(), "no lists");
    Ok(lists)
}

/// Parses rows of the form `| names | purpose |`, with names in backticks.
fn parse(document: &str) -> Result<Vec<List>> {
    let mut lists: Vec<List> = Vec::new();
    let mut nothing = Vec::new();
    for line in document.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            lists.push(List {
                title: title.to_owned(),
                ..List::default()
            });
            continue;
        }
        if line == "None." {
            nothing.extend(lists.last().map(|list| list.title.clone()));
        }
        let (Some(list), Some(row)) = (lists.last_mut(), line.strip_prefix("| ")) else {
            continue;
        };
        let (names, purpose) = row.split_once(" | ").unwrap_or((row, ""));
        for name in names.split('`').skip(1).step_by(2) {
            if name.starts_with('/') {
                list.files.push(Item {
                    path: name.to_owned(),
                    access: access(purpose)?,
                    optional: purpose.contains("optional"),
                });
            } else {
                list.calls.push(name.to_owned());
            }
        }
    }
    lists.retain(|list| !list.calls.is_empty() || nothing.contains(&list.title));
    Ok(lists)
}

fn access(purpose: &str) -> Result<Access> {
    let all = [
        ("read and write", Access::ReadWrite),
        ("read", Access::Read),
        ("list", Access::List),
    ];
    let found = all
        .into_iter()
        .find(|(words, _)| purpose.starts_with(words));
    ensure!(found.is_some(), "read, list, or read and write? {purpose}");
    Ok(found.map_or(Access::Read, |(_, access)| access))
}
