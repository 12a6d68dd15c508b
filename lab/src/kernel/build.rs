//! Builds a kernel from a source archive and a configuration fragment: unpack, configure, compile.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use super::config::Options;
use super::progress::Progress;
use crate::arch::Arch;

/// What building for an architecture takes.
struct Target {
    /// The kernel's name for it, and the prefix of its compiler: variables for `make`.
    env: &'static [(&'static str, &'static str)],
    /// The target of `make`.
    image: &'static str,
    /// Where `make` leaves the image in the tree.
    folder: &'static str,
}

const X86_64: Target = Target {
    env: &[],
    image: "bzImage",
    folder: "arch/x86/boot",
};

const ARM64: Target = Target {
    env: &[("ARCH", "arm64"), ("CROSS_COMPILE", "aarch64-linux-gnu-")],
    image: "Image",
    folder: "arch/arm64/boot",
};

/// How many of a log's last lines are shown.
const TAIL: usize = 20;

/// A source tree and the log of its build.
pub(super) struct Build {
    target: &'static Target,
    tree: PathBuf,
    log: PathBuf,
}

impl Build {
    /// Makes an empty tree and a new log.
    pub(super) fn new(arch: Arch, tree: PathBuf, log: PathBuf) -> Result<Self> {
        fs::create_dir(&tree).with_context(|| format!("cannot make {}", tree.display()))?;
        File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let target = match arch {
            Arch::X86_64 => &X86_64,
            Arch::Arm64 => &ARM64,
        };
        Ok(Build { target, tree, log })
    }

    /// Unpacks an archive `.tar.xz` of the source.
    pub(super) fn unpack(&self, archive: &Path) -> Result<()> {
        let progress = Progress::start("unpacking the source");
        let mut tar = self.command("tar");
        tar.args(["--extract", "--strip-components=1", "--file"]);
        self.run(tar.arg(archive), progress)
    }

    /// Makes the smallest configuration with the options, and checks that it has them.
    pub(super) fn configure(&self, fragment: &Options) -> Result<()> {
        const FILE: &str = "lab.config";
        fs::write(self.tree.join(FILE), fragment.canonical())?;
        self.make(&["tinyconfig"], Progress::start("configuring"))?;
        let mut merge = self.command("scripts/kconfig/merge_config.sh");
        merge.args(["-m", ".config", FILE]);
        self.run(&mut merge, Progress::start("configuring"))?;
        self.make(&["olddefconfig"], Progress::start("configuring"))?;
        let configuration = fs::read_to_string(self.configuration())?;
        fragment.ensure_in(&Options::parse(&configuration)?)
    }

    /// Compiles, on all CPUs.
    pub(super) fn compile(&self) -> Result<()> {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        self.make(
            &[&format!("-j{cpus}"), self.target.image],
            Progress::start("compiling"),
        )
    }

    /// The configuration.
    pub(super) fn configuration(&self) -> PathBuf {
        self.tree.join(".config")
    }

    /// The image.
    pub(super) fn image(&self) -> PathBuf {
        self.tree.join(self.target.folder).join(self.target.image)
    }

    /// What `uname -r` will say.
    pub(super) fn release(&self) -> Result<String> {
        let text = fs::read_to_string(self.tree.join("include/config/kernel.release"))
            .context("the build has left no release")?;
        Ok(text.trim().to_owned())
    }

    fn make(&self, arguments: &[&str], progress: Progress) -> Result<()> {
        self.run(self.command("make").args(arguments), progress)
    }

    /// A command in the tree that ends with this thread. Its environment has only necessary variables, because
    /// `ARCH`, `KCONFIG_*`, `MAKEFLAGS` and many others would change the result.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM", "--", program])
            .current_dir(&self.tree)
            .env_clear()
            .envs(
                ["PATH", "HOME", "TMPDIR"]
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .env("LC_ALL", "C")
            .envs(self.target.env.iter().copied())
            // Otherwise the kernel's version would contain the names of this machine and its user.
            .env("KBUILD_BUILD_USER", "hugebar")
            .env("KBUILD_BUILD_HOST", "lab")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, command: &mut Command, progress: Progress) -> Result<()> {
        let log = File::options().append(true).open(&self.log)?;
        let mut child = command
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run setpriv")?;
        let status = progress.wait(&mut child, &self.log)?;
        drop(progress);
        if !status.success() {
            let program = command.get_args().nth(3).unwrap_or_default();
            let text = fs::read(&self.log).unwrap_or_default();
            bail!(
                "{} failed ({status}); {} ends with:\n{}",
                program.to_string_lossy(),
                self.log.display(),
                last_words(&String::from_utf8_lossy(&text))
            );
        }
        Ok(())
    }
}

/// The end of a log. If several compilers ran at once, the first error can be long before it.
fn last_words(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let (before, tail) = lines.split_at(lines.len().saturating_sub(TAIL));
    let error = before.iter().find(|line| line.contains("error:"));
    let shown = error.into_iter().chain(tail);
    let shown: Vec<_> = shown.map(|line| format!("  | {line}")).collect();
    shown.join("\n")
}

/// Refuses to fill the disk.
pub(super) fn ensure_room(dir: &Path) -> Result<()> {
    /// The source takes 1.7 GiB, the build 0.3 GiB.
    const NEEDED_GIB: u64 = 3;
    let disk = rustix::fs::statvfs(dir)?;
    let free = disk.f_bavail * disk.f_frsize;
    ensure!(
        free >= NEEDED_GIB << 30,
        "building needs {NEEDED_GIB} GiB for a while, and {} has {} MiB: set HUGEBAR_CACHE to a folder elsewhere",
        dir.display(),
        free >> 20
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with this makefile.
    fn build(dir: &Path, makefile: &str) -> Build {
        let build = Build::new(Arch::X86_64, dir.join("tree"), dir.join("log")).unwrap();
        fs::write(build.tree.join("Makefile"), makefile).unwrap();
        build
    }

    #[test]
    fn a_failure_shows_the_end_of_the_log_and_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let build = build(
            dir.path(),
            "bzImage:\n\t@echo first; echo 'a.c:1: error: b'; seq 30; echo last >&2; exit 7\n",
        );
        let error = build.compile().unwrap_err().to_string();
        for part in ["make failed", "error: b", "| 30", "| last", "Error 7"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(!error.contains("first"), "{error}");
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        assert!(log.starts_with("first\n"), "{log}");
    }

    #[test]
    fn the_environment_of_the_user_does_not_get_in() {
        let dir = tempfile::tempdir().unwrap();
        let build = build(dir.path(), "bzImage:\n\t@env\n");
        build.compile().unwrap();
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        assert!(log.lines().any(|line| line == "LC_ALL=C"), "{log}");
        // Cargo sets these for tests.
        assert!(!log.contains("CARGO_"), "{log}");
    }

    #[test]
    fn a_short_log_is_shown_whole_and_an_error_once() {
        assert_eq!(last_words("a\nerror: b\n"), "  | a\n  | error: b");
        assert_eq!(last_words(""), "");
    }
}
