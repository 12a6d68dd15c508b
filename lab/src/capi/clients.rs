//! Programs in C and C++ that are built against the installed library, for tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::{Destination, SONAME};
use crate::copy::HostFile;
use crate::install;

/// How a program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// With the shared library.
    Shared,
    /// And with checks for addresses and undefined behaviour.
    Sanitized,
    /// With the static library.
    Static,
}

/// The library, installed into a folder of its own, and the programs that were built against it.
#[derive(Debug)]
pub struct Installed {
    prefix: TempDir,
    /// Programs by source.
    built: Mutex<BTreeMap<(String, Link), PathBuf>>,
}

impl Installed {
    /// Installs it with the profile of the other tests, unless this process has done so.
    ///
    /// # Errors
    /// If there is no compiler for C, or the library cannot be built or installed.
    pub fn get() -> Result<&'static Self> {
        static INSTALLED: OnceLock<Installed> = OnceLock::new();
        static ONCE: Mutex<()> = Mutex::new(());
        let _once = ONCE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(installed) = INSTALLED.get() {
            return Ok(installed);
        }
        install::ensure_c(false)?;
        let prefix = tempfile::tempdir()?;
        let destination = Destination {
            prefix: prefix.path(),
            libdir: Path::new("lib"),
            destdir: None,
        };
        super::install(&destination, "dev")?;
        Ok(INSTALLED.get_or_init(|| Installed {
            prefix,
            built: Mutex::default(),
        }))
    }

    /// The folder that it is installed below.
    pub fn prefix(&self) -> &Path {
        self.prefix.path()
    }

    /// The folder of the library's sources, which the paths of programs start from.
    pub fn sources() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/hugebar-capi")
    }

    /// The shared library, for a guest.
    pub fn library(&self) -> HostFile {
        HostFile {
            host: self.prefix().join("lib").join(SONAME),
            guest: Some("/lib/".into()),
        }
    }

    /// What `pkg-config` says about it.
    ///
    /// # Errors
    /// If it does not know the library.
    pub fn pkg_config(&self, words: &str) -> Result<Vec<String>> {
        let mut command = Command::new("pkg-config");
        let folder = self.prefix().join("lib/pkgconfig");
        let said = run(command
            .env("PKG_CONFIG_PATH", folder)
            .args(words.split(' '))
            .arg("hugebar"))?;
        Ok(said.split_whitespace().map(str::to_owned).collect())
    }

    /// A program, built unless this process has done so.
    ///
    /// # Errors
    /// If the compiler says anything about it.
    pub fn program(&self, source: &str, link: Link) -> Result<PathBuf> {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (source.to_owned(), link);
        if let Some(program) = built.get(&key) {
            return Ok(program.clone());
        }
        let program = self.build(source, link)?;
        built.insert(key, program.clone());
        Ok(program)
    }

    fn build(&self, source: &str, link: Link) -> Result<PathBuf> {
        let (compiler, standard) = match source.ends_with(".cpp") {
            true => ("g++", "-std=c++17"),
            false => ("gcc", "-std=c11"),
        };
        let source = Self::sources().join(source);
        let name = source.file_stem().context("a source has a name")?;
        let mut name = name.to_owned();
        name.push(format!("-{link:?}").to_lowercase());
        let program = self.prefix().join(name);
        let mut command = Command::new(compiler);
        command
            .args([standard, "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
            .args(self.pkg_config("--cflags")?)
            .arg(format!(
                "-DHUGEBAR_EXPECTED_VERSION=\"{}\"",
                self.pkg_config("--modversion")?.concat()
            ))
            .arg(&source)
            .arg("-o")
            .arg(&program);
        let lib = self.prefix().join("lib");
        match link {
            Link::Static => {
                // What pkg-config says, but with the archive instead of the shared library.
                let archive = lib.join("libhugebar.a").display().to_string();
                let words = self.pkg_config("--static --libs")?.into_iter();
                command.args(words.map(|word| match word.as_str() {
                    "-lhugebar" => archive.clone(),
                    _ => word,
                }));
            }
            Link::Shared | Link::Sanitized => {
                command.args(self.pkg_config("--libs")?);
                command.arg(format!("-Wl,-rpath,{}", lib.display()));
            }
        }
        if link == Link::Sanitized {
            command.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
        }
        run(&mut command)?;
        ensure!(fs::exists(&program)?, "no {}", program.display());
        Ok(program)
    }
}

/// What a command prints, if it succeeds.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot run a program")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}
