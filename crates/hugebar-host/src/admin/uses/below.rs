//! The kernel objects below a function: disks, network interfaces, nodes.

use std::fs;
use std::path::{Path, PathBuf};

use hugebar::pci::Address;

use crate::sysfs::{names, text};

/// Deeper than a disk behind hubs of a USB host lies.
const DEPTH: usize = 24;

/// An object of a class or bus, such as `net/eth0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    /// Its class or bus: `block`, `net`, `drm` ...
    pub(super) class: String,
    /// The number of its device file.
    pub(super) number: Option<(u32, u32)>,
}

/// All objects below a function, without those of the functions behind it.
#[derive(Debug, Default)]
pub(super) struct Below {
    pub(super) objects: Vec<Object>,
    /// Classes that have a folder below the function which shows nothing.
    pub(super) empty: Vec<String>,
}

impl Below {
    pub(super) fn read(folder: &Path) -> Self {
        let mut all = Self::default();
        all.walk(folder, DEPTH);
        all
    }

    pub(super) fn of<'a>(&'a self, class: &'a str) -> impl Iterator<Item = &'a Object> {
        self.objects.iter().filter(move |own| own.class == class)
    }

    fn walk(&mut self, folder: &Path, depth: usize) {
        let entries = names(folder);
        if entries.is_empty() {
            let name = folder.file_name().and_then(|name| name.to_str());
            self.empty.extend(name.map(str::to_owned));
        }
        for name in entries {
            let path = folder.join(&name);
            // A link leads elsewhere.
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|own| own.is_dir());
            let is_function = name.parse::<Address>().is_ok();
            if !is_folder || is_function || depth == 0 {
                continue;
            }
            if let Ok(class) = fs::read_link(path.join("subsystem")) {
                let class = class.file_name().map(|name| name.to_string_lossy());
                self.objects.push(Object {
                    class: class.unwrap_or_default().into_owned(),
                    number: number(&text(path.join("dev"))),
                    folder: path.clone(),
                    name,
                });
            }
            self.walk(&path, depth - 1);
        }
    }
}

/// `259:0`.
pub(super) fn number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
