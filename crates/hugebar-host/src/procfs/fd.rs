//! The open files of a process, identified by what they are, not by their names.
//!
//! Names prove nothing: in its own mount namespace a process can put any file at any path.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, StatxFlags, openat, readlinkat_raw, statx,
};

use super::process::Process;

/// Identifies a file: device number of its file system, and inode. `maps` shows both as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId {
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: FileId,
    /// For a character device, its major and minor number.
    pub(crate) char_device: Option<(u32, u32)>,
    /// The same for a block device.
    pub(crate) block_device: Option<(u32, u32)>,
}

/// A file that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) number: u32,
    pub(crate) file: Identity,
    /// Whether its link has exactly the requested name.
    pub(crate) is_named: bool,
}

impl Identity {
    /// Calls `statx` for what the kernel has cached: a file system can block a caller that asks for more.
    pub(crate) fn of(dir: impl AsFd, path: &str) -> io::Result<Self> {
        let mask = StatxFlags::TYPE | StatxFlags::INO;
        let stat = statx(dir, path, AtFlags::STATX_DONT_SYNC, mask)?;
        let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
        let number = (stat.stx_rdev_major, stat.stx_rdev_minor);
        Ok(Self {
            id: FileId {
                device: (stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
            },
            char_device: (kind == FileType::CharacterDevice).then_some(number),
            block_device: (kind == FileType::BlockDevice).then_some(number),
        })
    }
}

impl Process {
    /// Passes each open file to `each`. `name` is the kernel's name of a file without a path, such as
    /// `anon_inode:[vfio-device]`: no path reads like that, because paths begin with a slash.
    pub(crate) fn descriptors(
        &self,
        name: &str,
        mut each: impl FnMut(Descriptor) -> io::Result<()>,
    ) -> io::Result<()> {
        self.numbered("fd", |folder, number| {
            // It was closed meanwhile, or its file system does not answer us.
            let Ok(file) = Identity::of(folder, &number.to_string()) else {
                return Ok(());
            };
            let mut link = [0; 64];
            let length = readlinkat_raw(folder, number.to_string(), &mut link[..]).unwrap_or(0);
            each(Descriptor {
                number,
                file,
                is_named: link[..length] == *name.as_bytes(),
            })
        })
    }

    /// Passes each entry of one of its folders that is a number, with that folder, to `each`.
    pub(super) fn numbered(
        &self,
        name: &str,
        mut each: impl FnMut(&OwnedFd, u32) -> io::Result<()>,
    ) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(self.dir(), name, flags, Mode::empty())?;
        let mut buffer = Vec::with_capacity(1 << 13);
        let mut entries = RawDir::new(&folder, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            self.step()?;
            let entry = entry?;
            let number = entry.file_name().to_str().ok();
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                each(&folder, number)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::procfs::look;

    fn own() -> Vec<Descriptor> {
        look(std::process::id(), |process| {
            let mut all = Vec::new();
            process.descriptors("anon_inode:[eventpoll]", |own| {
                all.push(own);
                Ok(())
            })?;
            Ok(all)
        })
        .unwrap()
    }

    #[test]
    fn files_are_what_they_are() {
        let null = File::open("/dev/null").unwrap();
        let folder = tempfile::tempdir().unwrap();
        // The closest that a path can come.
        let path = folder.path().join("anon_inode:[eventpoll]");
        let plain = File::create(&path).unwrap();
        let of = |file: &File| {
            let number = u32::try_from(file.as_raw_fd()).unwrap();
            own().into_iter().find(|own| own.number == number).unwrap()
        };
        assert_eq!(of(&null).file.char_device, Some((1, 3)));
        let plain = of(&plain);
        assert_eq!(plain.file.char_device, None);
        assert!(!plain.is_named);
        let path = path.to_str().unwrap();
        assert_eq!(Identity::of(rustix::fs::CWD, path).unwrap(), plain.file);
    }
}
