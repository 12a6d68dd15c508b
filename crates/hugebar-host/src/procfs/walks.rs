//! Files of a process whose readers walk its page tables, which removes its 1 GiB leaves; and who has them open.

use std::io;

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat, readlinkat_raw};

use super::fd::{FileId, Identity};
use super::lines::field;
use super::process::Process;

/// Their names. Each thread has them too.
const WALKS: [&str; 3] = ["smaps", "smaps_rollup", "numa_maps"];

/// Such a file that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenWalk {
    pub(crate) file: FileId,
    /// Its name.
    pub(crate) name: &'static str,
    /// The process that it is of, by its path: another proc file system may number processes differently.
    pub(crate) by_path: u32,
    /// Whether anything has been read by this descriptor; `None` if that is unknown.
    pub(crate) has_read: Option<bool>,
}

impl Process {
    /// Identifies such files of this process and its threads.
    pub(crate) fn walks(&self) -> io::Result<Vec<FileId>> {
        let own = |path: &str| Identity::of(self.dir(), path).ok().map(|own| own.id);
        let mut files: Vec<_> = WALKS.into_iter().filter_map(own).collect();
        self.numbered("task", |_, thread| {
            let paths = WALKS.map(|name| format!("task/{thread}/{name}"));
            files.extend(paths.iter().filter_map(|path| own(path)));
            Ok(())
        })?;
        Ok(files)
    }

    /// Such files of other processes that this one has open.
    pub(crate) fn open_walks(&self) -> io::Result<Vec<OpenWalk>> {
        let mut found = Vec::new();
        self.numbered("fd", |folder, number| {
            let mut link = [0; 256];
            let length = readlinkat_raw(folder, number.to_string(), &mut link[..]).unwrap_or(0);
            let Some((by_path, name)) = walk(&link[..length]) else {
                return Ok(());
            };
            // It may be any file by that name. Closed in the meantime: not open.
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let Ok(file) = openat(folder, number.to_string(), flags, Mode::empty()) else {
                return Ok(());
            };
            let on_proc = fstatfs(&file).is_ok_and(|own| own.f_type == PROC_SUPER_MAGIC);
            let (true, Ok(identity)) = (on_proc, Identity::of(folder, &number.to_string())) else {
                return Ok(());
            };
            let info = self.text(&format!("fdinfo/{number}")).unwrap_or_default();
            let position: Option<u64> = field(&info, "pos").and_then(|pos| pos.parse().ok());
            found.push(OpenWalk {
                file: identity.id,
                name,
                by_path,
                has_read: position.map(|position| position > 0),
            });
            Ok(())
        })?;
        Ok(found)
    }
}

/// Process and name from a path such as `/proc/4711/smaps` or `/host/proc/4711/task/4712/smaps`.
fn walk(path: &[u8]) -> Option<(u32, &'static str)> {
    let path = std::str::from_utf8(path).ok()?;
    let (path, name) = path.rsplit_once('/')?;
    let name = WALKS.into_iter().find(|own| *own == name)?;
    let mut parts = path.rsplit('/');
    let number = parts.next()?;
    let process = match (parts.next(), parts.next()) {
        (Some("task"), Some(process)) => process,
        _ => number,
    };
    Some((process.parse().ok()?, name))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;
    use crate::procfs::look;

    #[test]
    fn paths_of_files_that_walk() {
        for (path, expected) in [
            ("/proc/4711/smaps", Some((4711, "smaps"))),
            ("/host/proc/1/smaps_rollup", Some((1, "smaps_rollup"))),
            ("/proc/1/task/2/numa_maps", Some((1, "numa_maps"))),
            ("/proc/1/maps", None),
            ("/proc/self/smaps", None),
            ("smaps", None),
            ("socket:[123]", None),
        ] {
            assert_eq!(walk(path.as_bytes()), expected, "{path}");
        }
    }

    /// This process and a file that only looks like one that walks.
    #[test]
    fn an_open_file_is_of_the_process_that_it_shows() {
        let own = std::process::id();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("7")).unwrap();
        let posing = File::create(folder.path().join("7/smaps")).unwrap();
        let mut rollup = File::open(format!("/proc/{own}/smaps_rollup")).unwrap();
        let find = || {
            let found = look(own, |process| Ok((process.walks()?, process.open_walks()?)));
            let (walks, open) = found.unwrap();
            assert!(open.iter().all(|one| one.by_path == own), "{open:?}");
            let open = open.into_iter().find(|one| one.name == "smaps_rollup");
            let open = open.unwrap();
            assert!(walks.contains(&open.file), "{walks:?}");
            open.has_read
        };
        assert_eq!(find(), Some(false));
        rollup.read_exact(&mut [0; 16]).unwrap();
        assert_eq!(find(), Some(true));
        drop((posing, rollup));
    }
}
