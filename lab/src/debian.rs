//! Programs of other Debian releases, for the guest and for this host: fetched with all dependencies, and run
//! with their own loader and libraries, independent of this host's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context, Result, ensure};
use hugebar_lab_guest::Command;
use serde::{Deserialize, Serialize};

use crate::apt::Apt;
use crate::arch::Arch;
use crate::cache::{self, Cache};
use crate::copy::{self, HostFile};
use crate::note;

/// Debian 12's QEMU, with SeaBIOS 1.16.2.
pub const QEMU_7_2: Program = Program {
    package: "qemu-system-x86",
    suite: "bookworm",
    file: "usr/bin/qemu-system-x86_64",
    data: &[
        "usr/share/seabios/bios-256k.bin",
        "usr/share/seabios/vgabios-stdvga.bin",
        "usr/share/qemu/kvmvapic.bin",
        "usr/share/qemu/linuxboot_dma.bin",
        // The emulated processor, which later versions contain in the program itself.
        "usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so",
    ],
};

/// Debian 13's QEMU, with SeaBIOS 1.16.3; also for machines inside the lab's machine.
pub const QEMU_10_0: Program = Program {
    package: "qemu-system-x86",
    suite: "trixie",
    file: "usr/bin/qemu-system-x86_64",
    data: &[
        "usr/share/seabios/bios-256k.bin",
        "usr/share/seabios/vgabios-stdvga.bin",
        "usr/share/qemu/kvmvapic.bin",
        "usr/share/qemu/linuxboot_dma.bin",
    ],
};

/// Debian 13's promtool, which checks metrics.
pub const PROMTOOL: Program = Program {
    package: "prometheus",
    suite: "trixie",
    file: "usr/bin/promtool",
    data: &[],
};

/// Debian 13's node exporter of Prometheus.
pub const NODE_EXPORTER: Program = Program {
    package: "prometheus-node-exporter",
    suite: "trixie",
    file: "usr/bin/prometheus-node-exporter",
    data: &[],
};

/// Version of the recipe: raise it when the same packages give another result.
const RECIPE: u32 = 1;

/// The folder of the cache, with a folder for each version of a program.
const FOLDER: &str = "programs";

/// The file that describes a fetched program.
const FETCHED: &str = "fetched.json";

/// The loader, in a fetched program and in the folder of libraries of its packages.
const LOADER: &str = "ld-linux-x86-64.so.2";

/// Library folders of packages: Debian 13 uses the first, 12 both.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// A program in Debian's packages.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    /// Its package.
    pub package: &'static str,
    /// The suite of that package, for example `trixie`.
    pub suite: &'static str,
    /// The program in the package.
    pub file: &'static str,
    /// Other files that it needs from its package or its dependencies.
    pub data: &'static [&'static str],
}

/// A program in the cache, with all dependencies.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The version of its package.
    pub version: String,
    dir: PathBuf,
    /// Its folder in the guest.
    guest: String,
    /// The name of the program's file.
    name: String,
}

/// The description of a fetched program in the cache.
#[derive(Serialize, Deserialize)]
struct Note {
    version: String,
}

impl Program {
    /// Gets it from the cache, or else from the package sources. A newer version does not cause a new fetch.
    ///
    /// # Errors
    /// If it is not in the cache and cannot be fetched.
    pub fn get(&self, cache: &Cache) -> Result<Fetched> {
        if let Some(fetched) = self.cached(cache)? {
            return Ok(fetched);
        }
        // One process at a time; a second one finds the result.
        let _lock = cache.lock("apt")?;
        match self.cached(cache)? {
            Some(fetched) => Ok(fetched),
            None => self.fetch(cache).with_context(|| {
                let Program { package, suite, .. } = self;
                format!("cannot fetch {package} of Debian {suite}")
            }),
        }
    }

    /// Tells the folders of this program from those of other programs and recipes.
    fn key(&self) -> Result<String> {
        let recipe = format!("{RECIPE}{}", serde_json::to_string(self)?);
        Ok(format!("{:016x}", cache::hash(recipe.as_bytes())))
    }

    /// The program if it was fetched before.
    fn cached(&self, cache: &Cache) -> Result<Option<Fetched>> {
        let key = self.key()?;
        for entry in fs::read_dir(cache.dir(FOLDER)?)? {
            let dir = entry?.path();
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            if !name.ends_with(&key) {
                continue;
            }
            let note: Note = serde_json::from_slice(&fs::read(dir.join(FETCHED))?)?;
            return Ok(Some(self.fetched(dir, note.version)));
        }
        Ok(None)
    }

    fn fetched(&self, dir: PathBuf, version: String) -> Fetched {
        Fetched {
            version,
            dir,
            guest: format!("/opt/{}", self.package),
            name: file_name(self.file),
        }
    }

    /// Fetches it; the caller must hold the lock.
    fn fetch(&self, cache: &Cache) -> Result<Fetched> {
        cache.sweep(FOLDER)?;
        let apt = Apt::set_up(cache, Arch::X86_64)?;
        let outdated = apt.update().err();
        let packages = match (apt.closure(&[self.package], self.suite, &[]), outdated) {
            (Ok(packages), None) => packages,
            (Ok(packages), Some(_)) => {
                note("cannot update the package lists: using older ones");
                packages
            }
            (Err(_), Some(error)) => return Err(error.context("there are no package lists yet")),
            (Err(error), None) => return Err(error),
        };
        let own = packages.iter().find(|one| one.name == self.package);
        let version = own.context("no such package")?.version.clone();
        note(&format!(
            "fetching {} {version} and what it depends on ({} packages)",
            self.package,
            packages.len()
        ));
        // Leave out the epoch (`1:`): the loader takes a colon as a separator of paths.
        let upstream = version.split_once(':').map_or(&*version, |(_, rest)| rest);
        let folder = format!("{FOLDER}/{}-{upstream}-{}", self.package, self.key()?);
        cache.publish(&folder, |work| {
            let tree = apt.tree(&packages, work)?;
            self.stage(&tree, work)?;
            fs::remove_dir_all(&tree)?;
            let note = Note {
                version: version.clone(),
            };
            fs::write(work.join(FETCHED), serde_json::to_vec(&note)?)?;
            Ok(())
        })?;
        Ok(self.fetched(cache.path(folder), version))
    }

    /// Copies the program, its loader, its libraries and its data from its unpacked packages.
    fn stage(&self, tree: &Path, into: &Path) -> Result<()> {
        let program = tree.join(self.file);
        let (libraries, data) = (into.join("lib"), into.join("data"));
        fs::create_dir(&libraries)?;
        fs::create_dir(&data)?;
        // Not executable, because its loader runs it: copying it must not look for its libraries on this host.
        put(&program, &into.join(file_name(self.file)), 0o644)?;
        for library in needed(tree, &program)? {
            let name = file_name(&library.display().to_string());
            put(&library, &libraries.join(name), 0o644)?;
        }
        put(&loader(tree)?, &into.join(LOADER), 0o755)?;
        for file in self.data {
            put(&tree.join(file), &data.join(file_name(file)), 0o644)?;
        }
        Ok(())
    }
}

impl Fetched {
    /// The folder for [`Spec::copy`](crate::Spec::copy).
    pub fn files(&self) -> HostFile {
        HostFile {
            host: self.dir.clone(),
            guest: Some(self.guest.clone()),
        }
    }

    /// The folder of the program's data in the guest.
    pub fn data(&self) -> String {
        format!("{}/data", self.guest)
    }

    /// The folder of the program's data on this host.
    pub(crate) fn data_here(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The command that runs it on this host, without arguments.
    pub fn here(&self) -> Vec<String> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let words = [
            &path(LOADER),
            "--library-path",
            &path("lib"),
            &path(&self.name),
        ];
        words.map(str::to_owned).into()
    }

    /// The command that runs it in the guest, with arguments separated by spaces.
    pub fn command(&self, arguments: &str) -> Command {
        let Fetched { guest, name, .. } = self;
        let words =
            format!("{guest}/{LOADER} --library-path {guest}/lib {guest}/{name} {arguments}");
        Command::new(words.split_whitespace())
    }
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// Copies a file, or the target of a link.
fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(to, PermissionsExt::from_mode(mode))?;
    Ok(())
}

/// The loader in unpacked packages.
pub(crate) fn loader(tree: &Path) -> Result<PathBuf> {
    let paths = LIBRARIES
        .iter()
        .map(|folder| tree.join(folder).join(LOADER));
    let mut there = paths.filter(|path| path.is_file());
    there.next().context("its packages have no loader")
}

/// The libraries that a program loads at start, from its own packages.
fn needed(tree: &Path, program: &Path) -> Result<Vec<PathBuf>> {
    let folders = LIBRARIES.map(|folder| tree.join(folder).display().to_string());
    let output = Process::new(loader(tree)?)
        .args(["--inhibit-cache", "--library-path", &folders.join(":")])
        .arg("--list")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("cannot run its loader")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "its loader failed: {}",
        said.trim()
    );
    let mut libraries = Vec::new();
    for library in copy::listed(&String::from_utf8_lossy(&output.stdout))? {
        // The loader lists itself too.
        if library.guest.ends_with(LOADER) {
            continue;
        }
        ensure!(
            library.host.starts_with(tree),
            "its packages lack {}, which this host has",
            library.host.display()
        );
        libraries.push(library.host);
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_serves_until_the_recipe_changes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        assert!(QEMU_10_0.cached(&cache).unwrap().is_none());
        cache.dir("programs/.new-half").unwrap();
        let folder = format!(
            "programs/{}-10.0-{}",
            QEMU_10_0.package,
            QEMU_10_0.key().unwrap()
        );
        cache
            .publish(&folder, |work| {
                let note = br#"{"version":"1:10.0"}"#;
                Ok(fs::write(work.join(FETCHED), note)?)
            })
            .unwrap();
        let fetched = QEMU_10_0.get(&cache).unwrap();
        assert_eq!(fetched.version, "1:10.0");
        assert_eq!(fetched.files().host, cache.path(folder));

        let with_other_data = Program {
            data: &[],
            ..QEMU_10_0
        };
        assert!(with_other_data.cached(&cache).unwrap().is_none());
    }

    #[test]
    fn it_is_run_by_its_own_loader() {
        let fetched = QEMU_10_0.fetched("/cache/programs/x".into(), "1:10.0".into());
        let words = fetched.command("-m 64  -M q35").argv;
        let guest = "/opt/qemu-system-x86";
        let line = format!(
            "{guest}/ld-linux-x86-64.so.2 --library-path {guest}/lib {guest}/qemu-system-x86_64 -m 64 -M q35"
        );
        assert_eq!(words.join(" "), line);
        assert_eq!(fetched.files().guest.as_deref(), Some(guest));
        let cache = "/cache/programs/x";
        let line = format!(
            "{cache}/ld-linux-x86-64.so.2 --library-path {cache}/lib {cache}/qemu-system-x86_64"
        );
        assert_eq!(fetched.here().join(" "), line);
    }
}
