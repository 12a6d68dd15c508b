//! Files that bind devices to VFIO's drivers at every boot.

use std::fs;
use std::path::PathBuf;

use hugebar::pci::Function;

use super::error::Error;
use super::tree::Tree;
use crate::sysfs::names;

/// A file that binds a function to a VFIO driver at every boot, or may do so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Lasting {
    /// `driverctl`, `udev`, `modprobe` or `command-line`.
    pub kind: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The line that does it.
    pub line: String,
}

/// Finds the files that bind a function to a VFIO driver at every boot: `/etc/driverctl.d`, udev's rules, modprobe's
/// options, the kernel's command line.
///
/// # Errors
///
/// If its IDs cannot be read.
pub fn lasting(function: &Function) -> Result<Vec<Lasting>, Error> {
    find(&Tree::own(), function)
}

fn find(tree: &Tree, function: &Function) -> Result<Vec<Lasting>, Error> {
    let address = function.address().to_string();
    let (vendor, device) = function.ids()?;
    let mut found = Vec::new();
    let mut look = |kind, path: &str, ending: &str, is_it: &dyn Fn(&str) -> bool| {
        let whole = tree.path(path);
        let files = match whole.is_dir() {
            true => names(&whole)
                .into_iter()
                .filter(|name| name.ends_with(ending))
                .map(|name| whole.join(name))
                .collect(),
            false => vec![whole],
        };
        for path in files {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines = text
                .lines()
                .map(str::trim)
                .filter(|line| !line.starts_with('#'));
            let own = lines.filter(|line| is_it(line)).map(|line| Lasting {
                kind,
                path: path.clone(),
                line: line.to_owned(),
            });
            found.extend(own);
        }
    };
    look(
        "driverctl",
        &format!("etc/driverctl.d/{address}"),
        "",
        &|line| line.contains("vfio"),
    );
    let is_rule = |line: &str| {
        let names_it = line.contains(&address)
            || [vendor, device]
                .iter()
                .all(|id| line.contains(&format!("{id:04x}")));
        line.contains("driver_override") && line.contains("vfio") && names_it
    };
    for folder in ["etc/udev/rules.d", "usr/lib/udev/rules.d"] {
        look("udev", folder, ".rules", &is_rule);
    }
    let has_ids = |words: &str| {
        let ids = words
            .split_whitespace()
            .filter_map(|word| word.split_once("ids="));
        let mut ids = ids.flat_map(|(_, ids)| ids.split(','));
        ids.any(|ids| {
            ids.to_ascii_lowercase()
                .starts_with(&format!("{vendor:04x}:{device:04x}"))
        })
    };
    let is_option = |line: &str| {
        let mut words = line.split_whitespace();
        let module = (words.next() == Some("options"))
            .then(|| words.next())
            .flatten();
        matches!(module, Some("vfio-pci" | "vfio_pci")) && has_ids(line)
    };
    for folder in ["etc/modprobe.d", "usr/lib/modprobe.d"] {
        look("modprobe", folder, ".conf", &is_option);
    }
    let on_command_line = |line: &str| {
        let own =
            |word: &&str| word.starts_with("vfio-pci.ids=") || word.starts_with("vfio_pci.ids=");
        line.split_whitespace().filter(own).any(has_ids)
    };
    look("command-line", "proc/cmdline", "", &on_command_line);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_file_is_recognised() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let device = "sys/bus/pci/devices/0000:01:00.0";
        put(&format!("{device}/vendor"), "0x10de\n");
        put(&format!("{device}/device"), "0x2331\n");
        let tree = Tree::at(root.path());
        let function = tree.function("0000:01:00.0".parse().unwrap()).unwrap();
        let kinds = || -> Vec<_> {
            let found = find(&tree, &function).unwrap();
            found.into_iter().map(|own| own.kind).collect()
        };
        put(
            "etc/modprobe.d/a.conf",
            "# options vfio-pci ids=10de:2331\noptions vfio-pci ids=10de:2330\n",
        );
        put(
            "etc/modprobe.d/a.conf.bak",
            "options vfio-pci ids=10de:2331\n",
        );
        put("etc/driverctl.d/0000:02:00.0", "vfio-pci\n");
        put(
            "etc/udev/rules.d/9.rules",
            "KERNEL==\"0000:02:00.0\", ATTR{driver_override}=\"vfio-pci\"\n\
             #KERNEL==\"0000:01:00.0\", ATTR{driver_override}=\"vfio-pci\"\n",
        );
        put("proc/cmdline", "quiet nvme.ids=10de:2331\n");
        assert!(kinds().is_empty(), "{:?}", kinds());
        put("etc/driverctl.d/0000:01:00.0", "vfio-pci\n");
        put(
            "etc/udev/rules.d/9.rules",
            "KERNEL==\"0000:01:00.0\", ATTR{driver_override}=\"vfio-pci\"\n",
        );
        put(
            "etc/modprobe.d/a.conf",
            "options vfio_pci disable_vga=1 ids=1af4:1041,10DE:2331\n",
        );
        put("proc/cmdline", "quiet vfio-pci.ids=10de:2331\n");
        assert_eq!(kinds(), ["driverctl", "udev", "modprobe", "command-line"]);
    }
}
