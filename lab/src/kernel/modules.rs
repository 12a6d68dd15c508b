//! Kernel modules: finds those that VFIO needs, orders them for loading, and reads them, compressed or not.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection};

/// The root modules, which depend on all others.
const ROOTS: [&str; 2] = ["vfio_iommu_type1", "vfio_pci"];

/// The modules to load, in order, as paths relative to the folder.
///
/// Built-in modules are in neither `modules.dep` nor any module's dependencies, and so are not loaded.
///
/// # Errors
/// If the folder lacks a file that it names.
pub(crate) fn load_order(dir: &Path) -> Result<Vec<String>> {
    let text = match fs::read_to_string(dir.join("modules.dep")) {
        Ok(text) if !text.is_empty() => text,
        // Packages do not contain it: it is made when they are installed.
        _ => dependencies(dir)?,
    };
    order(&text)
}

/// The order from the text of `modules.dep`.
fn order(dep: &str) -> Result<Vec<String>> {
    let files: BTreeMap<_, _> = dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| (name(file), (file, needs)))
        .collect();
    let mut walk = Walk {
        files: &files,
        seen: HashSet::new(),
        order: Vec::new(),
    };
    for root in ROOTS {
        // It may be built in, or missing; binding a device will show.
        if files.contains_key(root) {
            walk.visit(root)?;
        }
    }
    Ok(walk.order)
}

struct Walk<'a> {
    files: &'a BTreeMap<String, (&'a str, &'a str)>,
    seen: HashSet<String>,
    order: Vec<String>,
}

impl Walk<'_> {
    fn visit(&mut self, module: &str) -> Result<()> {
        if !self.seen.insert(module.to_owned()) {
            return Ok(());
        }
        let (file, needs) = self
            .files
            .get(module)
            .with_context(|| format!("modules.dep has no line for {module}"))?;
        // Each line names all dependencies, the first to load at the end.
        for need in needs.split_whitespace().rev() {
            self.visit(&name(need))?;
        }
        self.order.push((*file).to_owned());
        Ok(())
    }
}

/// The lines of `modules.dep` for the roots and their dependencies, from the modules themselves.
fn dependencies(dir: &Path) -> Result<String> {
    let mut files = BTreeMap::new();
    find(dir, &dir.join("kernel"), &mut files)?;
    let file_of = |module: &str| {
        files
            .get(module)
            .with_context(|| format!("{} lacks the module {module}", dir.display()))
    };
    let mut text = String::new();
    let mut queue: Vec<_> = ROOTS
        .iter()
        .filter(|root| files.contains_key(**root))
        .map(|root| (*root).to_owned())
        .collect();
    let mut seen = HashSet::new();
    while let Some(module) = queue.pop() {
        if !seen.insert(module.clone()) {
            continue;
        }
        let file = file_of(&module)?;
        let needs = needs(&read_module(&dir.join(file))?)
            .with_context(|| format!("{file} is not a kernel module"))?;
        write!(text, "{file}:")?;
        for need in &needs {
            write!(text, " {}", file_of(need)?)?;
        }
        text.push('\n');
        queue.extend(needs);
    }
    Ok(text)
}

/// Finds all modules below a folder: name, and path relative to `root`.
fn find(root: &Path, dir: &Path, files: &mut BTreeMap<String, String>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(root, &path, files)?;
        } else if let Some(file) = path.strip_prefix(root)?.to_str() {
            if file.contains(".ko") {
                files.insert(name(file), file.to_owned());
            }
        }
    }
    Ok(())
}

/// The names in the `depends=` line of a module.
fn needs(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module)?;
    let section = file
        .section_by_name(".modinfo")
        .context("it has no section .modinfo")?;
    Ok(section
        .data()?
        .split(|byte| *byte == 0)
        .filter_map(|line| std::str::from_utf8(line).ok()?.strip_prefix("depends="))
        .flat_map(|names| names.split(','))
        .filter(|name| !name.is_empty())
        .map(name)
        .collect())
}

/// The name of a module in dependencies: `vfio_pci` for `kernel/drivers/vfio/pci/vfio-pci.ko.xz`.
fn name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    let base = base.split(".ko").next().unwrap_or(base);
    base.replace('-', "_")
}

/// The content of a module, decompressed.
///
/// # Errors
/// If it cannot be read, or the program that unpacks it fails.
pub(crate) fn read_module(path: &Path) -> Result<Vec<u8>> {
    decompress(path)
}

/// The content of a file, decompressed as its ending says.
///
/// # Errors
/// As [`read_module`].
pub(super) fn decompress(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|ending| ending.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    };
    let output = Command::new(program)
        .args(["--decompress", "--stdout", "--"])
        .arg(path)
        .output()
        .with_context(|| format!("cannot run {program}, which {} needs", path.display()))?;
    ensure!(
        output.status.success(),
        "{program} cannot unpack {}: {}",
        path.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}

/// Copies the modules that VFIO needs, decompressed, with a `modules.dep`.
///
/// # Errors
/// If a file cannot be read or written, or there is no VFIO.
pub(super) fn stage(from: &Path, to: &Path) -> Result<()> {
    let order = load_order(from)?;
    for root in ROOTS {
        ensure!(
            order.iter().any(|file| name(file) == root),
            "{} has no module {root}",
            from.display()
        );
    }
    let mut dep = String::new();
    let mut before: Vec<String> = Vec::new();
    for file in order {
        let unpacked = PathBuf::from(&file);
        let unpacked = match unpacked.extension() {
            Some(ending) if ending != "ko" => unpacked.with_extension(""),
            _ => unpacked,
        };
        let target = to.join(&unpacked);
        fs::create_dir_all(target.parent().unwrap_or(to))?;
        fs::write(&target, read_module(&from.join(&file))?)?;
        // Everything loaded so far counts as a dependency: more than it needs, never too little.
        before.insert(0, unpacked.display().to_string());
        writeln!(dep, "{}: {}", before[0], before[1..].join(" "))?;
    }
    fs::write(to.join("modules.dep"), dep)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/drivers/vfio/vfio.ko.xz: kernel/drivers/iommu/iommufd.ko.xz
kernel/drivers/iommu/iommufd.ko.xz:
kernel/drivers/vfio/vfio_iommu_type1.ko.xz: kernel/drivers/vfio/vfio.ko.xz kernel/drivers/iommu/iommufd.ko.xz
kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/pci/vfio-pci-core.ko.xz kernel/drivers/vfio/vfio.ko.xz kernel/drivers/iommu/iommufd.ko.xz kernel/virt/lib/irqbypass.ko.xz
kernel/drivers/vfio/pci/vfio-pci-core.ko.xz: kernel/drivers/vfio/vfio.ko.xz kernel/drivers/iommu/iommufd.ko.xz kernel/virt/lib/irqbypass.ko.xz
kernel/virt/lib/irqbypass.ko.xz:
kernel/fs/nfs.ko.xz: kernel/net/sunrpc.ko.xz
";

    fn names(dep: &str) -> Vec<String> {
        let order = order(dep).unwrap();
        order.iter().map(|file| name(file)).collect()
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it_and_nothing_else_is() {
        assert_eq!(
            names(DEP),
            [
                "iommufd",
                "vfio",
                "vfio_iommu_type1",
                "irqbypass",
                "vfio_pci_core",
                "vfio_pci"
            ]
        );
    }

    #[test]
    fn what_is_built_in_is_not_loaded() {
        let built_in = DEP
            .lines()
            .filter(|line| !line.starts_with("kernel/drivers/iommu/"))
            .map(|line| line.replace(" kernel/drivers/iommu/iommufd.ko.xz", ""))
            .collect::<Vec<_>>()
            .join("\n");
        assert!(!names(&built_in).contains(&"iommufd".to_owned()));
        assert_eq!(names(&built_in).len(), 5);
        assert!(names("").is_empty());
    }

    #[test]
    fn a_need_without_a_line_is_an_error() {
        let error = order("a/vfio-pci.ko: a/gone.ko\n").unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
    }

    #[test]
    fn names_know_neither_folders_nor_endings_nor_dashes() {
        for file in ["kernel/x/vfio-pci.ko", "vfio-pci.ko.zst", "vfio_pci"] {
            assert_eq!(name(file), "vfio_pci");
        }
    }

    #[test]
    fn staged_modules_are_unpacked_and_in_order() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let put = |file: &str, text: &str| fs::write(from.path().join(file), text).unwrap();
        put("vfio.ko", "one");
        put("vfio-pci.ko", "two");
        put("vfio_iommu_type1.ko", "three");
        let mut gzip = Command::new("gzip");
        gzip.arg(from.path().join("vfio.ko"));
        assert!(gzip.status().unwrap().success());
        put(
            "modules.dep",
            "vfio-pci.ko: vfio.ko.gz\nvfio.ko.gz:\nvfio_iommu_type1.ko: vfio.ko.gz\n",
        );

        stage(from.path(), to.path()).unwrap();
        assert_eq!(
            load_order(to.path()).unwrap(),
            ["vfio.ko", "vfio_iommu_type1.ko", "vfio-pci.ko"]
        );
        assert_eq!(fs::read(to.path().join("vfio.ko")).unwrap(), b"one");
    }
}
