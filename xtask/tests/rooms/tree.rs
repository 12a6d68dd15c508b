//! The source files of all crates, found as the compiler does: from the roots by `mod`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use syn::{Attribute, Expr, File, Item, Lit, Meta};

/// A module, by the name of its crate and its path in it: `["hugebar", "vfio", "open"]`.
pub(crate) type Module = Vec<String>;

/// A module's content.
pub(crate) struct Content {
    /// Its file below the workspace.
    pub(crate) file: PathBuf,
    /// Its items, without those of inline modules.
    pub(crate) items: Vec<Item>,
    /// The crates that its paths can begin with, by their names there.
    pub(crate) externs: BTreeSet<String>,
}

/// All modules of all crates except those that are only compiled for unit tests.
#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) modules: BTreeMap<Module, Content>,
    /// Each file that was read, with its text parsed.
    pub(crate) files: BTreeMap<PathBuf, File>,
}

/// The members of the workspace, as folders.
pub(crate) const MEMBERS: [&str; 9] = [
    "crates/hugebar",
    "crates/hugebar-capi",
    "crates/hugebar-host",
    "crates/hugebar-cli",
    "crates/hugebar-preload",
    "lab",
    "lab/exercise",
    "lab/guest",
    "xtask",
];

/// The folder of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    folder.canonicalize().unwrap()
}

impl Tree {
    /// Reads every crate.
    pub(crate) fn read() -> Self {
        let mut tree = Self::default();
        let libraries: BTreeSet<_> = MEMBERS
            .iter()
            .filter(|member| workspace().join(member).join("src/lib.rs").exists())
            .map(|member| crate_name(member))
            .collect();
        for member in MEMBERS {
            for root in roots(member) {
                let mut externs = libraries.clone();
                let library = root.ends_with("src/lib.rs");
                let name = if library {
                    let own = crate_name(member);
                    externs.remove(&own);
                    own
                } else {
                    // For example `crates/hugebar-cli/src/main.rs`: no path can begin with it.
                    root.display().to_string()
                };
                tree.add_file(vec![name], &root, &externs, true);
            }
        }
        tree
    }

    fn add_file(&mut self, module: Module, file: &Path, externs: &BTreeSet<String>, counts: bool) {
        let text = fs::read_to_string(workspace().join(file));
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text);
        let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let items = parsed.items.clone();
        self.files.insert(file.to_owned(), parsed);
        self.add(module, file, items, externs, counts);
    }

    fn add(
        &mut self,
        module: Module,
        file: &Path,
        items: Vec<Item>,
        externs: &BTreeSet<String>,
        counts: bool,
    ) {
        for item in &items {
            let Item::Mod(own) = item else { continue };
            let child = [&module[..], &[own.ident.to_string()]].concat();
            let counts = counts && !is_for_tests(&own.attrs);
            match &own.content {
                Some((_, items)) => self.add(child, file, items.clone(), externs, counts),
                None => {
                    let path = own.attrs.iter().find_map(path_of);
                    let file = file_of(file, &child, path.as_deref());
                    self.add_file(child, &file, externs, counts);
                }
            }
        }
        if counts {
            let content = Content {
                file: file.to_owned(),
                items,
                externs: externs.clone(),
            };
            self.modules.insert(module, content);
        }
    }
}

/// Whether an item is only compiled for unit tests or documentation tests.
pub(crate) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else {
            return attribute.path().is_ident("test");
        };
        let cfg = list.tokens.to_string();
        list.path.is_ident("cfg") && matches!(cfg.as_str(), "test" | "doctest")
    })
}

/// The value of `#[path = "…"]`.
fn path_of(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else {
        return None;
    };
    match &pair.value {
        Expr::Lit(literal) if pair.path.is_ident("path") => match &literal.lit {
            Lit::Str(path) => Some(path.value()),
            _ => None,
        },
        _ => None,
    }
}

/// The file of a module that another file declares.
fn file_of(parent: &Path, child: &Module, path: Option<&str>) -> PathBuf {
    let folder = parent.parent().unwrap();
    if let Some(path) = path {
        return without_steps_up(&folder.join(path));
    }
    let name = child.last().unwrap();
    let stem = parent.file_stem().unwrap();
    // The modules of a root or a `mod.rs` lie beside it; those of another file in a folder of its name.
    let folder = if child.len() == 2 || stem == "mod" {
        folder.to_owned()
    } else {
        folder.join(stem)
    };
    let beside = folder.join(format!("{name}.rs"));
    if workspace().join(&beside).exists() {
        beside
    } else {
        folder.join(name).join("mod.rs")
    }
}

/// The same path without `..`.
fn without_steps_up(path: &Path) -> PathBuf {
    let mut own = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => assert!(own.pop(), "{}", path.display()),
            other => own.push(other),
        }
    }
    own
}

/// The name of a member's library in other crates.
fn crate_name(member: &str) -> String {
    let manifest = fs::read_to_string(workspace().join(member).join("Cargo.toml")).unwrap();
    let name = manifest
        .lines()
        .find_map(|line| line.strip_prefix("name = "))
        .unwrap();
    name.trim_matches('"').replace('-', "_")
}

/// The root files of a member: its library, programs, tests, examples and benchmarks, at Cargo's default paths.
fn roots(member: &str) -> Vec<PathBuf> {
    let member = Path::new(member);
    let mut roots: Vec<_> = ["src/lib.rs", "src/main.rs"]
        .iter()
        .map(|root| member.join(root))
        .filter(|root| workspace().join(root).exists())
        .collect();
    for folder in ["src/bin", "tests", "examples", "benches"] {
        let entries = fs::read_dir(workspace().join(member).join(folder));
        for entry in entries.into_iter().flatten() {
            let path = member.join(folder).join(entry.unwrap().file_name());
            let main = path.join("main.rs");
            if workspace().join(&main).exists() {
                roots.push(main);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                roots.push(path);
            }
        }
    }
    roots.sort();
    roots
}
