//! The licences of the crates that are linked into a program: their authors want them passed on with it.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
}

#[derive(Deserialize)]
struct Crate {
    name: String,
    version: String,
    license: Option<String>,
    /// Null for those of this workspace.
    source: Option<String>,
    manifest_path: PathBuf,
}

/// The licences of all crates that a package of this workspace is linked with, and their texts.
pub(super) fn of(workspace: &Path, package: &str) -> Result<String> {
    let tree = [
        "tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}",
    ];
    let tree = cargo(workspace, &[&tree[..], &["--package", package]].concat())?;
    let linked: Vec<_> = tree.lines().filter_map(name).collect();
    let metadata = cargo(
        workspace,
        &["metadata", "--locked", "--format-version", "1"],
    )?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let mut texts = BTreeMap::new();
    for own in metadata.packages {
        let is_linked = linked.contains(&(own.name.as_str(), own.version.as_str()));
        if own.source.is_some() && is_linked {
            texts.insert(format!("{} {}", own.name, own.version), text(&own)?);
        }
    }
    ensure!(!texts.is_empty(), "{package} has crates");
    let mut all = String::new();
    for (name, text) in texts {
        writeln!(all, "{name}: {text}")?;
    }
    Ok(all)
}

/// Name and version in a line of `cargo tree`: `libc v0.2.170 (proc-macro)`.
fn name(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split(' ');
    Some((words.next()?, words.next()?.strip_prefix('v')?))
}

/// The licence's name, and the files with its text.
fn text(own: &Crate) -> Result<String> {
    let folder = own
        .manifest_path
        .parent()
        .context("a manifest lies in a folder")?;
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_uppercase();
        let is_licence = ["LICENSE", "LICENCE", "COPYING", "NOTICE"].iter();
        if path.is_file() && is_licence.into_iter().any(|begin| name.starts_with(begin)) {
            files.push(path);
        }
    }
    files.sort();
    let mut text = format!("{}\n", own.license.as_deref().unwrap_or("see below"));
    for file in files {
        let content = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        // The longest one is in every Debian.
        if content.contains("Apache License") && content.contains("Version 2.0, January 2004") {
            text.push_str("\n    /usr/share/common-licenses/Apache-2.0\n");
            continue;
        }
        text.push('\n');
        for line in content.lines() {
            writeln!(text, "{}", format!("    {line}").trim_end())?;
        }
    }
    Ok(text)
}

fn cargo(workspace: &Path, arguments: &[&str]) -> Result<String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(cargo);
    let output = cargo.current_dir(workspace).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{cargo:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_of_others_with_their_texts() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let all = of(&workspace, "hugebar-cli").unwrap();
        assert!(all.contains("\nrustix 1."), "{all}");
        assert!(all.contains("Permission is hereby granted"), "{all}");
        // Not those of this workspace, nor those that only tests use.
        for absent in ["\nhugebar ", "\nboon ", "\nschemars "] {
            assert!(!all.contains(absent), "{absent}");
        }
    }
}
