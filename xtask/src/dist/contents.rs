//! Which files each package has.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::build::{Build, SHELLS};
use super::commit::Commit;
use super::tree::Tree;

/// Documents for operators, and for programs in C.
const OF_OPERATORS: [&str; 9] = [
    "README.md",
    "docs/benchmarks/sizes-newest.svg",
    "docs/bind.md",
    "docs/doctor.md",
    "docs/inspect.md",
    "docs/json.md",
    "docs/monitoring.md",
    "docs/run.md",
    "docs/vf-and-resize.md",
];
const OF_C: [&str; 1] = ["docs/c.md"];

/// The command, with all that is used with it.
pub(super) fn command(build: &Build, commit: &Commit, tree: &Tree) -> Result<()> {
    tree.copy(&build.program, "usr/bin/hugebar", 0o755)?;
    let preload = "usr/lib/hugebar/libhugebar_preload.so";
    tree.copy(&build.preload, preload, 0o644)?;
    for page in names(&build.pages)? {
        let text = fs::read(build.pages.join(&page))?;
        tree.compress(&format!("usr/share/man/man8/{page}.gz"), &text)?;
    }
    for ((_, path), text) in SHELLS.iter().zip(&build.completions) {
        tree.write(path, text, 0o644)?;
    }
    let units = build.workspace.join("dist/systemd");
    for unit in names(&units)? {
        let path = format!("usr/lib/systemd/system/{unit}");
        tree.copy(&units.join(&unit), &path, 0o644)?;
    }
    for script in ["postinst", "prerm", "postrm"] {
        let from = build
            .workspace
            .join("dist/debian")
            .join(format!("hugebar.{script}"));
        tree.copy(&from, &format!("DEBIAN/{script}"), 0o755)?;
    }
    documents("hugebar", &OF_OPERATORS, build, tree)?;
    legal("hugebar", &build.licences[0], build, commit, tree)
}

/// The library that programs in C are linked with, for running them.
pub(super) fn library(build: &Build, commit: &Commit, tree: &Tree) -> Result<()> {
    let folder = format!("usr/lib/{}", build.triplet);
    let file = concat!("libhugebar.so.", env!("CARGO_PKG_VERSION"));
    let path = format!("{folder}/{file}");
    tree.copy(&build.library.join(&path), &path, 0o644)?;
    tree.link(&format!("{folder}/{}", hugebar_lab::capi::SONAME), file)?;
    let number = hugebar_lab::capi::SONAME
        .rsplit('.')
        .next()
        .context("a number")?;
    let shlibs = format!(
        // With the tilde, a package of a commit before that release is enough.
        "libhugebar {number} libhugebar{number} (>= {}~)\n",
        env!("CARGO_PKG_VERSION")
    );
    tree.write("DEBIAN/shlibs", shlibs.as_bytes(), 0o644)?;
    tree.write("DEBIAN/triggers", b"activate-noawait ldconfig\n", 0o644)?;
    legal("libhugebar0", &build.licences[1], build, commit, tree)
}

/// What is needed to build programs in C.
pub(super) fn development(build: &Build, commit: &Commit, tree: &Tree) -> Result<()> {
    let folder = format!("usr/lib/{}", build.triplet);
    let archive = format!("{folder}/libhugebar.a");
    let pc = format!("{folder}/pkgconfig/hugebar.pc");
    for path in ["usr/include/hugebar.h", &archive, &pc] {
        tree.copy(&build.library.join(path), path, 0o644)?;
    }
    tree.link(
        &format!("{folder}/libhugebar.so"),
        hugebar_lab::capi::SONAME,
    )?;
    let examples = build.workspace.join("crates/hugebar-capi/examples/c");
    for example in names(&examples)? {
        let path = format!("usr/share/doc/libhugebar-dev/examples/{example}");
        tree.copy(&examples.join(&example), &path, 0o644)?;
    }
    documents("libhugebar-dev", &OF_C, build, tree)?;
    legal("libhugebar-dev", &build.licences[1], build, commit, tree)
}

fn documents(package: &str, files: &[&str], build: &Build, tree: &Tree) -> Result<()> {
    for file in files {
        let path = format!("usr/share/doc/{package}/{file}");
        tree.copy(&build.workspace.join(file), &path, 0o644)?;
    }
    Ok(())
}

/// What every package has: licences, changes, and why lintian's tags do not apply.
fn legal(package: &str, licences: &str, build: &Build, commit: &Commit, tree: &Tree) -> Result<()> {
    let folder = format!("usr/share/doc/{package}");
    let copyright = build.workspace.join("dist/debian/copyright");
    tree.copy(&copyright, &format!("{folder}/copyright"), 0o644)?;
    let overrides = format!("dist/debian/{package}.lintian-overrides");
    let to = format!("usr/share/lintian/overrides/{package}");
    tree.copy(&build.workspace.join(overrides), &to, 0o644)?;
    tree.compress(&format!("{folder}/licences.gz"), licences.as_bytes())?;
    let changes = fs::read(build.workspace.join("CHANGELOG.md"))?;
    tree.compress(&format!("{folder}/changelog.gz"), &changes)?;
    let Commit {
        version,
        date,
        maintainer,
        ..
    } = commit;
    let of_package = format!(
        "hugebar ({version}) unstable; urgency=medium\n\n  * Packaged; changelog.gz has the changes of hugebar.\n\n \
         -- {maintainer}  {date}\n"
    );
    tree.compress(
        &format!("{folder}/changelog.Debian.gz"),
        of_package.as_bytes(),
    )
}

/// The names of the files in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let name = entry?.file_name();
        names.push(name.to_str().context("a name in UTF-8")?.to_owned());
    }
    names.sort();
    Ok(names)
}
