//! What dpkg knows about each package, and packing it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::build::{Build, run};
use super::commit::Commit;
use super::contents;
use super::tree::Tree;

/// A package.
pub(super) struct Package {
    pub(super) name: &'static str,
    section: &'static str,
    /// Can be installed for several architectures at once.
    is_multi_arch: bool,
    /// The package that has to be installed in the same version.
    needs: Option<&'static str>,
    /// Further fields.
    fields: &'static str,
    summary: &'static str,
    description: &'static str,
    pub(super) contents: fn(&Build, &Commit, &Tree) -> Result<()>,
}

/// All packages. The number of the library's is that of its soname.
pub(super) const PACKAGES: [Package; 3] = [
    Package {
        name: "hugebar",
        section: "admin",
        is_multi_arch: false,
        needs: None,
        fields: "Suggests: prometheus-node-exporter\n",
        summary: "map PCI BARs with the largest pages, and verify the result",
        description: "\
Linux VFIO maps a device's memory (its BARs) into a process, since Linux 6.12
with pages of 2 MiB and 1 GiB, if the addresses are suitable and the right hint
is given before the first access. hugebar does both, and counts the page-table
leaves that the kernel has installed.

It also finds what keeps a device from being mapped, shows the mappings of
running virtual machines, binds devices to VFIO and gives them back, creates
virtual functions, resizes BARs, and starts programs such as QEMU so that their
BARs get large pages.
",
        contents: contents::command,
    },
    Package {
        name: "libhugebar0",
        section: "libs",
        is_multi_arch: true,
        needs: None,
        fields: "",
        summary: "map PCI BARs with the largest pages (shared library)",
        description: "\
For programs in C and C++ that map the memory of VFIO devices with the largest
pages that the kernel can use.
",
        contents: contents::library,
    },
    Package {
        name: "libhugebar-dev",
        section: "libdevel",
        is_multi_arch: true,
        needs: Some("libhugebar0"),
        fields: "",
        summary: "map PCI BARs with the largest pages (development files)",
        description: "\
Header, static library and file for pkg-config, for programs in C and C++ that
map the memory of VFIO devices with the largest pages that the kernel can use.
",
        contents: contents::development,
    },
];

/// Packs a package.
pub(super) fn build(
    package: &Package,
    tree: &Tree,
    arch: &str,
    commit: &Commit,
    output: &Path,
) -> Result<PathBuf> {
    let mut depends: Vec<_> = shared_libraries(tree)?.into_iter().collect();
    depends.extend(
        package
            .needs
            .map(|needs| format!("{needs} (= {})", commit.version)),
    );
    let size = installed_size(tree)?;
    let control = text(package, arch, commit, &depends.join(", "), size);
    tree.write("DEBIAN/md5sums", &sums(tree)?, 0o644)?;
    tree.write("DEBIAN/control", control.as_bytes(), 0o644)?;
    let file = output.join(format!("{}_{}_{arch}.deb", package.name, commit.version));
    run(Command::new("dpkg-deb")
        // One thread: how the content is divided among several decides on the bytes.
        .args(["--root-owner-group", "-Zxz", "--threads-max=1", "--build"])
        .args([tree.path(), &file])
        .env("SOURCE_DATE_EPOCH", &commit.epoch)
        .stdout(std::process::Stdio::null()))?;
    Ok(file)
}

fn text(package: &Package, arch: &str, commit: &Commit, depends: &str, size: u64) -> String {
    let Package {
        name,
        section,
        fields,
        summary,
        description,
        ..
    } = package;
    let Commit {
        version,
        maintainer,
        ..
    } = commit;
    let multi_arch = match package.is_multi_arch {
        true => "Multi-Arch: same\n",
        false => "",
    };
    let depends = match depends {
        "" => String::new(),
        depends => format!("Depends: {depends}\n"),
    };
    let description: String = description
        .lines()
        .map(|line| format!(" {}\n", if line.is_empty() { "." } else { line }))
        .collect();
    format!(
        "Package: {name}\nSource: hugebar\nVersion: {version}\nArchitecture: {arch}\nMaintainer: {maintainer}\n\
         Installed-Size: {size}\n{depends}{fields}Section: {section}\nPriority: optional\n{multi_arch}\
         Description: {summary}\n{description}"
    )
}

/// In KiB, as `dpkg-gencontrol` counts: each file and folder is rounded up.
fn installed_size(tree: &Tree) -> Result<u64> {
    let mut folders = std::collections::BTreeSet::new();
    let mut size = 0;
    for file in tree.files()? {
        let found = fs::symlink_metadata(tree.path().join(&file))?;
        size += if found.is_file() {
            found.len().div_ceil(1024)
        } else {
            1
        };
        folders.extend(Path::new(&file).ancestors().skip(1).map(PathBuf::from));
    }
    Ok(size + folders.len() as u64)
}

/// The sums of all files, for `dpkg --verify`.
fn sums(tree: &Tree) -> Result<Vec<u8>> {
    let mut files = tree.files()?;
    files.retain(|file| !tree.path().join(file).is_symlink());
    let mut sums = Command::new("md5sum");
    let output = sums.args(&files).current_dir(tree.path()).output()?;
    ensure!(output.status.success(), "{sums:?}: {}", output.status);
    Ok(output.stdout)
}

/// The packages, and their versions, of the shared libraries that programs and libraries in the package use.
fn shared_libraries(tree: &Tree) -> Result<Option<String>> {
    let mut programs = Vec::new();
    for file in tree.files()? {
        let path = tree.path().join(&file);
        if !path.is_symlink() && fs::read(&path)?.starts_with(b"\x7fELF") {
            programs.push(path);
        }
    }
    if programs.is_empty() {
        return Ok(None);
    }
    // It wants to be in a source package.
    let work = tempfile::tempdir()?;
    fs::create_dir(work.path().join("debian"))?;
    fs::write(
        work.path().join("debian/control"),
        "Source: hugebar\n\nPackage: hugebar\nArchitecture: any\n",
    )?;
    let mut find = Command::new("dpkg-shlibdeps");
    find.arg("-O").args(&programs).current_dir(work.path());
    let output = find.output().context("dpkg-shlibdeps")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{find:?}: {said}");
    let found = String::from_utf8(output.stdout)?;
    let found = found.trim().strip_prefix("shlibs:Depends=");
    Ok(found.filter(|own| !own.is_empty()).map(str::to_owned))
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
