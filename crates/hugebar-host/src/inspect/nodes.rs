//! VFIO's device files, identified by device number.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::fs::CWD;

use crate::procfs::{FileId, Identity};
use crate::sysfs::names;

/// A device file of VFIO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A device's own node, by name: `vfio0`.
    Device(String),
    /// An IOMMU group's file, no-IOMMU groups included.
    Group(u32),
}

/// The VFIO device files of this host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nodes {
    /// By major and minor number.
    numbers: BTreeMap<(u32, u32), Node>,
    /// The files that this process sees in `/dev/vfio`.
    files: BTreeMap<FileId, Node>,
}

impl Nodes {
    /// Looks at `/sys/class` and `/dev/vfio`.
    pub(crate) fn observe() -> Self {
        Self::read(Path::new("/sys/class"), Path::new("/dev/vfio"))
    }

    fn read(class: &Path, dev: &Path) -> Self {
        let mut nodes = Self::default();
        for name in names(class.join("vfio-dev")) {
            nodes.add(&class.join("vfio-dev").join(&name), Node::Device(name));
        }
        for name in names(class.join("vfio")) {
            let number = name.strip_prefix("noiommu-").unwrap_or(&name);
            if let Ok(number) = number.parse() {
                nodes.add(&class.join("vfio").join(&name), Node::Group(number));
            }
        }
        for folder in [dev.to_owned(), dev.join("devices")] {
            for name in names(&folder) {
                let path = folder.join(name);
                let file = path.to_str().and_then(|path| Identity::of(CWD, path).ok());
                let node = file.and_then(|file| Some((file.id, nodes.of(file)?.clone())));
                nodes.files.extend(node);
            }
        }
        nodes
    }

    fn add(&mut self, folder: &Path, node: Node) {
        let text = fs::read_to_string(folder.join("dev")).unwrap_or_default();
        if let Some(number) = number(text.trim_end()) {
            self.numbers.insert(number, node);
        }
    }

    /// Which device file this is, whatever its path.
    pub(crate) fn of(&self, file: Identity) -> Option<&Node> {
        self.numbers.get(&file.char_device?)
    }

    /// The same by file system and inode alone.
    pub(crate) fn of_id(&self, id: FileId) -> Option<&Node> {
        self.files.get(&id)
    }
}

/// `511:0`.
fn number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_numbers() {
        let tree = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        // The number of /dev/null stands in for a group's.
        put("class/vfio/12/dev", "1:3\n");
        put("class/vfio/noiommu-3/dev", "1:5\n");
        put("class/vfio-dev/vfio0/dev", "511:0\n");
        put("class/vfio-dev/vfio1/dev", "nonsense\n");
        put("dev/12", "a plain file of that name");
        put("dev/devices/vfio0", "another one");
        let nodes = Nodes::read(&tree.path().join("class"), &tree.path().join("dev"));
        let of = |path: &str| nodes.of(Identity::of(CWD, path).unwrap()).cloned();
        assert_eq!(of("/dev/null"), Some(Node::Group(12)));
        assert_eq!(of("/dev/zero"), Some(Node::Group(3)));
        assert_eq!(of("/dev/full"), None);
        let plain = tree.path().join("dev/12");
        assert_eq!(of(plain.to_str().unwrap()), None);
        assert!(nodes.files.is_empty(), "{nodes:?}");
        assert_eq!(nodes.numbers[&(511, 0)], Node::Device("vfio0".into()));
        assert_eq!(nodes.numbers.len(), 3);

        // With a /dev whose files do have these numbers.
        let nodes = Nodes::read(&tree.path().join("class"), Path::new("/dev"));
        let null = Identity::of(CWD, "/dev/null").unwrap();
        assert_eq!(nodes.of_id(null.id), Some(&Node::Group(12)));
    }
}
