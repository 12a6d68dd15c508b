//! Which files a file imports, by all paths in it: `use`, types, calls, and arguments of macros.
//!
//! A name that a module re-exports (`pub use`) is followed to its definition. A re-export is no import,
//! so a `mod.rs` that only re-exports its folder imports none of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Item, ItemUse, Macro, UseTree, Visibility};

use super::tree::{Content, Module, Tree, is_for_tests};

/// The files that each file imports.
pub(crate) type Imports = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// A name in a module that stands for a path from the root of a crate.
#[derive(Clone)]
struct Alias {
    /// `None` for a glob import.
    name: Option<String>,
    path: Vec<String>,
    /// Whether others can use it.
    is_passed_on: bool,
}

/// Reads the imports of all files.
pub(crate) fn read(tree: &Tree) -> Imports {
    let names = Names::new(tree);
    let mut imports = Imports::new();
    for (module, content) in &tree.modules {
        let mut paths = Paths::default();
        for item in content.items.iter().filter(|item| counts(item)) {
            paths.visit_item(item);
        }
        let aliases = names.aliases.get(module).into_iter().flatten();
        let mut known: Vec<Vec<String>> = aliases
            .filter(|alias| !alias.is_passed_on)
            .map(|alias| alias.path.clone())
            .collect();
        known.extend(paths.found.iter().map(|path| names.begin(module, path)));
        let files = imports.entry(content.file.clone()).or_default();
        for path in known {
            if let Some(found) = names.resolve(&path, 0) {
                files.insert(tree.modules[&found].file.clone());
            }
        }
        files.remove(&content.file);
    }
    imports
}

/// Whether an item is read here: modules are read separately, and test-only items do not count.
fn counts(item: &Item) -> bool {
    let attributes = match item {
        Item::Mod(_) => return false,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return true,
    };
    !is_for_tests(attributes)
}

/// All imported names.
struct Names<'a> {
    tree: &'a Tree,
    aliases: BTreeMap<&'a Module, Vec<Alias>>,
}

impl<'a> Names<'a> {
    fn new(tree: &'a Tree) -> Self {
        let mut names = Self {
            tree,
            aliases: BTreeMap::new(),
        };
        for (module, content) in &tree.modules {
            let mut found = Uses::default();
            for item in content.items.iter().filter(|item| counts(item)) {
                found.visit_item(item);
            }
            let aliases = found.found.into_iter().map(|alias| Alias {
                path: names.absolute(module, content, &alias.path),
                ..alias
            });
            names.aliases.insert(module, aliases.collect());
        }
        names
    }

    /// A path from the root of its crate; empty for other crates than ours.
    fn absolute(&self, module: &Module, content: &Content, path: &[String]) -> Vec<String> {
        let mut base: &[String] = module;
        let mut rest = path;
        let mut is_relative = false;
        while let [first, behind @ ..] = rest {
            match first.as_str() {
                "crate" => base = &module[..1],
                "super" => base = base.split_last().map_or(base, |(_, parent)| parent),
                "self" => {}
                _ => break,
            }
            is_relative = true;
            rest = behind;
        }
        if is_relative || rest.first().is_some_and(|first| self.is_child(base, first)) {
            [base, rest].concat()
        } else if rest
            .first()
            .is_some_and(|first| content.externs.contains(first))
        {
            rest.to_vec()
        } else {
            Vec::new()
        }
    }

    fn is_child(&self, module: &[String], name: &str) -> bool {
        let child = [module, &[name.to_owned()]].concat();
        self.tree.modules.contains_key(&child)
    }

    /// A path in an expression or type, whose first name can be an imported one.
    fn begin(&self, module: &Module, path: &[String]) -> Vec<String> {
        let mut aliases = self.aliases.get(module).into_iter().flatten();
        let first = path.first();
        match aliases.find(|alias| alias.name.is_some() && alias.name.as_ref() == first) {
            Some(alias) => [&alias.path[..], &path[1..]].concat(),
            // A variable, or an item of the module itself: a module alone is not an expression or type.
            None if path.len() == 1 => Vec::new(),
            None => self.absolute(module, &self.tree.modules[module], path),
        }
    }

    /// The module that contains the item of a path.
    fn resolve(&self, path: &[String], depth: u32) -> Option<Module> {
        assert!(depth < 32, "{path:?} goes round");
        let mut module = path.get(..1)?.to_vec();
        self.tree.modules.get(&module)?;
        for (position, name) in path.iter().enumerate().skip(1) {
            if self.is_child(&module, name) {
                module.push(name.clone());
                continue;
            }
            let rest = &path[position + 1..];
            let aliases = self.aliases.get(&module).into_iter().flatten();
            for alias in aliases.filter(|alias| !alias.path.is_empty()) {
                let target = match &alias.name {
                    Some(own) if own == name => [&alias.path[..], rest].concat(),
                    None if alias.is_passed_on => {
                        let defined = [&alias.path[..], std::slice::from_ref(name)].concat();
                        if !self.defines(&defined) {
                            continue;
                        }
                        [&defined[..], rest].concat()
                    }
                    _ => continue,
                };
                return self.resolve(&target, depth + 1);
            }
            // An item of this module.
            break;
        }
        Some(module)
    }

    /// Whether the last name of a path is an item of the module before it.
    fn defines(&self, path: &[String]) -> bool {
        let Some((name, module)) = path.split_last() else {
            return false;
        };
        let Some(content) = self.tree.modules.get(module) else {
            return false;
        };
        self.is_child(module, name) || content.items.iter().any(|item| is_named(item, name))
    }
}

fn is_named(item: &Item, name: &str) -> bool {
    let own = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return false,
    };
    own == name
}

/// Finds the `use` items of a module, including those in functions.
#[derive(Default)]
struct Uses {
    found: Vec<Alias>,
}

impl Uses {
    fn tree(&mut self, before: &[String], tree: &UseTree, is_passed_on: bool) {
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        let (name, path) = match tree {
            UseTree::Path(path) => {
                let before = with(&path.ident);
                return self.tree(&before, &path.tree, is_passed_on);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(before, tree, is_passed_on);
                }
                return;
            }
            UseTree::Name(name) if name.ident == "self" => {
                (before.last().cloned(), before.to_vec())
            }
            UseTree::Name(name) => (Some(name.ident.to_string()), with(&name.ident)),
            UseTree::Rename(own) => (Some(own.rename.to_string()), with(&own.ident)),
            UseTree::Glob(_) => (None, before.to_vec()),
        };
        self.found.push(Alias {
            name,
            path,
            is_passed_on,
        });
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item_use(&mut self, own: &'ast ItemUse) {
        let is_passed_on = !matches!(own.vis, Visibility::Inherited);
        self.tree(&[], &own.tree, is_passed_on);
    }
}

/// Finds all other paths of a module.
#[derive(Default)]
struct Paths {
    found: BTreeSet<Vec<String>>,
}

impl Paths {
    /// Names with `::` between them. All of them count, because it is unknown what a macro makes of them.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.end(&mut path);
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Group(group) => {
                    self.end(&mut path);
                    colons = 0;
                    self.tokens(group.stream());
                }
                _ => {
                    self.end(&mut path);
                    colons = 0;
                }
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Vec<String>) {
        if !path.is_empty() {
            self.found.insert(std::mem::take(path));
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        self.found.insert(names.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, own: &'ast Macro) {
        self.tokens(own.tokens.clone());
        visit::visit_macro(self, own);
    }
}
