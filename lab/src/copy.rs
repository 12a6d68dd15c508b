//! Copies files, folders and programs into the guest: programs with the shared libraries that they need.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::initramfs::{Initramfs, Source};

/// A file or folder to copy: `PATH[:GUEST_PATH]`.
///
/// Without a path in the guest, a program goes to `/bin`, everything else to `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFile {
    /// Its path on this host.
    pub host: PathBuf,
    /// Its path in the guest.
    pub guest: Option<String>,
}

impl FromStr for HostFile {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (host, guest) = match text.split_once(':') {
            Some((host, guest)) => (host, Some(guest)),
            None => (text, None),
        };
        ensure!(
            !host.is_empty() && guest.is_none_or(|guest| guest.starts_with('/')),
            "{text:?} is not PATH or PATH:GUEST_PATH, the latter with a / at its beginning"
        );
        Ok(HostFile {
            host: host.into(),
            guest: guest.map(str::to_owned),
        })
    }
}

/// Default folders of the dynamic loader, on various distributions.
const SEARCHED: [&str; 6] = [
    "/lib",
    "/lib64",
    "/lib/x86_64-linux-gnu",
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
];

/// Adds files to an initramfs, and keeps track of the loader's search path.
pub(crate) struct Copier<'a> {
    initramfs: &'a mut Initramfs,
    library_path: BTreeSet<String>,
}

impl<'a> Copier<'a> {
    pub(crate) fn new(initramfs: &'a mut Initramfs) -> Self {
        Copier {
            initramfs,
            library_path: BTreeSet::new(),
        }
    }

    /// Copies what the user asked for.
    pub(crate) fn copy(&mut self, copy: &HostFile) -> Result<()> {
        let host = &copy.host;
        let whole = host
            .canonicalize()
            .with_context(|| format!("there is no {} to copy", host.display()))?;
        // Keep the name of a link; `.` and `..` have no name.
        let name = host.file_name().or(whole.file_name());
        let name = name
            .and_then(|name| name.to_str())
            .with_context(|| format!("{} has no file name", host.display()))?;
        let program = host.is_file() && is_executable(host)?;
        let guest = match &copy.guest {
            Some(folder) if folder.ends_with('/') => format!("{folder}{name}"),
            Some(path) => path.clone(),
            None if program => format!("/bin/{name}"),
            None => format!("/{name}"),
        };
        self.tree(host, &guest)
    }

    /// Adds a program with its libraries.
    pub(crate) fn program(&mut self, host: &Path, guest: &str) -> Result<()> {
        self.initramfs.file(guest, 0o755, Source::File(host.into()));
        for library in libraries(host)? {
            let folder = library
                .guest
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            if !SEARCHED.contains(&folder) {
                self.library_path.insert(folder.to_owned());
            }
            self.initramfs
                .file(&library.guest, 0o755, Source::File(library.host));
        }
        Ok(())
    }

    /// The folders for `LD_LIBRARY_PATH`.
    pub(crate) fn library_path(self) -> Vec<String> {
        self.library_path.into_iter().collect()
    }

    fn tree(&mut self, host: &Path, guest: &str) -> Result<()> {
        let metadata =
            fs::metadata(host).with_context(|| format!("cannot read {}", host.display()))?;
        if metadata.is_dir() {
            self.initramfs.dir(guest);
            for entry in fs::read_dir(host)? {
                let entry = entry?;
                let name = entry.file_name();
                let name = name
                    .to_str()
                    .with_context(|| format!("{name:?} is no text"))?;
                let guest = format!("{guest}/{name}");
                if entry.file_type()?.is_symlink() {
                    let target = fs::read_link(entry.path())?;
                    let target = target
                        .to_str()
                        .with_context(|| format!("{target:?} is no text"))?;
                    self.initramfs.symlink(&guest, target);
                } else {
                    self.tree(&entry.path(), &guest)?;
                }
            }
            return Ok(());
        }
        ensure!(
            metadata.is_file(),
            "{} is neither file nor folder",
            host.display()
        );
        if is_executable(host)? {
            self.program(host, guest)
        } else {
            self.initramfs.file(
                guest,
                metadata.permissions().mode() & 0o777,
                Source::File(host.into()),
            );
            Ok(())
        }
    }
}

fn is_executable(path: &Path) -> Result<bool> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o111 != 0)
}

/// A shared library: its file on this host, and the path where the loader looks for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Library {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
}

/// The libraries of a program, including the loader; none for static programs and scripts.
fn libraries(program: &Path) -> Result<Vec<Library>> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("cannot run ldd")?;
    // It fails on files without libraries.
    if !output.status.success() {
        return Ok(Vec::new());
    }
    listed(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("{} cannot run in the guest", program.display()))
}

/// Parses the output of `ldd`, or of the loader with `--list`: `NAME => PATH (0x…)`, `PATH (0x…)` or `NAME => not found`.
pub(crate) fn listed(text: &str) -> Result<Vec<Library>> {
    let mut libraries = Vec::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let (guest, host) = match words.as_slice() {
            [name, "=>", "not", "found", ..] => bail!("its library {name} is missing"),
            // Programs name the loader by a path, which may differ from where it lies.
            [path, "=>", host, ..] if path.starts_with('/') => (*path, *host),
            [_, "=>", path, ..] => (*path, *path),
            [path, ..] => (*path, *path),
            [] => continue,
        };
        // An entry without a path is the vDSO.
        if host.starts_with('/') {
            libraries.push(Library {
                host: host.into(),
                guest: guest.to_owned(),
            });
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_go_where_the_loader_looks_for_them() {
        let text = "\tlinux-vdso.so.1 (0x00007ffe)
\tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f01)
\t/lib64/ld-linux-x86-64.so.2 => /usr/lib64/ld-linux-x86-64.so.2 (0x00007f02)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f03)
";
        let found: Vec<_> = listed(text)
            .unwrap()
            .into_iter()
            .map(|library| (library.host.display().to_string(), library.guest))
            .collect();
        let loader = "/lib64/ld-linux-x86-64.so.2";
        let gcc = "/lib/x86_64-linux-gnu/libgcc_s.so.1";
        let expected = [
            (gcc, gcc),
            ("/usr/lib64/ld-linux-x86-64.so.2", loader),
            (loader, loader),
        ];
        assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn a_missing_library_is_named() {
        let error = listed("\tlibfoo.so.3 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libfoo.so.3"), "{error}");
    }

    #[test]
    fn a_running_program_has_a_loader_and_a_script_has_none() {
        let libraries = libraries(&std::env::current_exe().unwrap()).unwrap();
        assert!(libraries.iter().any(|one| one.guest.contains("/ld-")));
        let script = tempfile::NamedTempFile::new().unwrap();
        fs::write(script.path(), "#!/bin/sh\n").unwrap();
        assert_eq!(super::libraries(script.path()).unwrap(), []);
    }

    #[test]
    fn programs_go_to_bin_and_folders_go_whole() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, mode| {
            let path = dir.path().join(name);
            fs::write(&path, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            path
        };
        let (real, data) = (put("real", 0o755), put("data", 0o640));
        let tool = dir.path().join("tool");
        std::os::unix::fs::symlink(real, &tool).unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        put("sub/inner", 0o644);
        std::os::unix::fs::symlink("inner", dir.path().join("sub/link")).unwrap();

        let mut initramfs = Initramfs::new();
        let mut copier = Copier::new(&mut initramfs);
        for text in [
            tool.display().to_string(),
            format!("{}:/etc/", data.display()),
            format!("{}:/opt/x", dir.path().join("sub").display()),
        ] {
            copier.copy(&text.parse().unwrap()).unwrap();
        }
        assert!(copier.copy(&"/no/such/file".parse().unwrap()).is_err());
        for path in ["bin/tool", "etc/data", "opt/x/inner", "opt/x/link"] {
            assert!(initramfs.contains(path), "{path}");
        }
    }

    #[test]
    fn copies_are_read_from_text() {
        let copy: HostFile = "./vmm:/usr/bin/vmm".parse().unwrap();
        assert_eq!(copy.guest.as_deref(), Some("/usr/bin/vmm"));
        assert_eq!("vmm".parse::<HostFile>().unwrap().guest, None);
        for wrong in ["", ":/x", "a:relative"] {
            assert!(wrong.parse::<HostFile>().is_err(), "{wrong:?}");
        }
    }
}
