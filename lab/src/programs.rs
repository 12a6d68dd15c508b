//! Builds programs of this workspace for the guest, when they are first needed and once per process.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::arch::Arch;
use crate::cache::Cache;
use crate::cross::{self, Cross, Kind};

/// Built programs, by architecture, profile and Cargo's arguments.
static BUILT: Mutex<BTreeMap<(Arch, String, String), PathBuf>> = Mutex::new(BTreeMap::new());

/// PID 1, built with this profile.
pub(crate) fn init(arch: Arch, profile: &str) -> Result<PathBuf> {
    program_for(arch, "hugebar-lab-guest", "init", profile)
}

/// The `hugebar` of this checkout, built with this profile of Cargo.
///
/// # Errors
/// If it cannot be built.
pub fn hugebar(profile: &str) -> Result<PathBuf> {
    hugebar_for(Arch::X86_64, profile)
}

/// The same for a guest of this architecture.
pub(crate) fn hugebar_for(arch: Arch, profile: &str) -> Result<PathBuf> {
    program_for(arch, "hugebar-cli", "hugebar", profile)
}

/// A program of this workspace, built with this profile of Cargo unless this process has done so already.
///
/// # Errors
/// If it cannot be built.
pub fn program(package: &str, name: &str, profile: &str) -> Result<PathBuf> {
    program_for(Arch::X86_64, package, name, profile)
}

/// The same for a guest of this architecture: cross-built and static, if it is not that of this host.
///
/// # Errors
/// If it cannot be built.
pub fn program_for(arch: Arch, package: &str, name: &str, profile: &str) -> Result<PathBuf> {
    once(arch, package, name, &["--bin", name], profile)
}

/// An integration test of a package of this workspace, with all features of the package, for a guest of this
/// architecture; as [`program_for`] otherwise.
///
/// # Errors
/// If it cannot be built.
pub fn test_for(arch: Arch, package: &str, name: &str, profile: &str) -> Result<PathBuf> {
    let target = ["--test", name, "--all-features"];
    once(arch, package, name, &target, profile)
}

/// The unit tests of a package's library; as [`test_for`] otherwise.
///
/// # Errors
/// If they cannot be built.
pub fn unit_tests_for(arch: Arch, package: &str, profile: &str) -> Result<PathBuf> {
    // Cargo names a library as a crate.
    let name = package.replace('-', "_");
    once(arch, package, &name, &UNIT_TESTS, profile)
}

/// Cargo's arguments for them.
const UNIT_TESTS: [&str; 3] = ["--lib", "--no-run", "--all-features"];

/// An example of a package of this workspace, with all features of the package; as [`program`] otherwise.
///
/// # Errors
/// If it cannot be built.
pub fn example(package: &str, name: &str, profile: &str) -> Result<PathBuf> {
    example_for(Arch::X86_64, package, name, profile)
}

/// The same for a guest of this architecture; as [`program_for`].
///
/// # Errors
/// If it cannot be built.
pub fn example_for(arch: Arch, package: &str, name: &str, profile: &str) -> Result<PathBuf> {
    let target = ["--example", name, "--all-features"];
    once(arch, package, name, &target, profile)
}

/// A shared library of this workspace, with this package and name of its target; as [`program`] otherwise.
///
/// # Errors
/// If it cannot be built.
pub fn shared_library(package: &str, name: &str, profile: &str) -> Result<PathBuf> {
    shared_library_for(Arch::X86_64, package, name, profile)
}

/// The same for programs of this architecture.
///
/// # Errors
/// If it cannot be built.
pub fn shared_library_for(arch: Arch, package: &str, name: &str, profile: &str) -> Result<PathBuf> {
    once(arch, package, name, &SHARED_LIBRARY, profile)
}

/// Cargo's arguments for one.
const SHARED_LIBRARY: [&str; 1] = ["--lib"];

/// Compiles a program in C that needs nothing but the C library, for a guest of this architecture; not static.
///
/// # Errors
/// If the compiler says anything about it.
pub fn compile_c(arch: Arch, source: &Path, program: &Path) -> Result<()> {
    let compiler = match arch {
        Arch::X86_64 => "cc",
        Arch::Arm64 => cross::LINKER,
    };
    let built = Command::new(compiler)
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([program, source])
        .status()
        .with_context(|| format!("cannot run {compiler}"))?;
    ensure!(
        built.success(),
        "{compiler} cannot build {}",
        source.display()
    );
    Ok(())
}

/// The libraries of a package for programs in other languages, each a shared and a static one, built with this profile and
/// without what this workspace's tests need (`.cargo/config.toml`) unless `for_tests`.
pub(crate) fn libraries(package: &str, profile: &str, for_tests: bool) -> Result<Vec<PathBuf>> {
    let mut cargo = cargo(Arch::X86_64, "build", Kind::Library)?;
    if !for_tests && env::var_os("RUSTFLAGS").is_none() {
        cargo.env("RUSTFLAGS", "");
    }
    let messages = messages(cargo, package, &SHARED_LIBRARY, profile)?;
    let found = messages.into_iter().filter(|message| {
        let target = message.target.as_ref();
        target.is_some_and(|target| target.kind.iter().any(|kind| kind == "staticlib"))
    });
    Ok(found.flat_map(|message| message.filenames).collect())
}

fn once(arch: Arch, package: &str, name: &str, target: &[&str], profile: &str) -> Result<PathBuf> {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (
        arch,
        profile.to_owned(),
        format!("{package} {}", target.join(" ")),
    );
    if let Some(path) = built.get(&key) {
        return Ok(path.clone());
    }
    let mut path = build(arch, package, name, target, profile)?;
    if arch == Arch::X86_64 && path.extension().is_none() {
        path = stripped(path)?;
    }
    built.insert(key, path.clone());
    Ok(path)
}

fn build(arch: Arch, package: &str, name: &str, target: &[&str], profile: &str) -> Result<PathBuf> {
    let command = if target == UNIT_TESTS {
        "test"
    } else {
        "build"
    };
    let kind = match target == SHARED_LIBRARY {
        true => Kind::Library,
        false => Kind::Program,
    };
    let cargo = cargo(arch, command, kind)?;
    built(messages(cargo, package, target, profile)?, name)
        .with_context(|| format!("cargo has built no program {name}"))
}

fn workspace() -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let workspace = workspace.context("the lab lies within the workspace")?;
    Ok(workspace.to_owned())
}

/// Builds a package, and returns what Cargo says about it.
fn messages(
    mut cargo: Command,
    package: &str,
    target: &[&str],
    profile: &str,
) -> Result<Vec<Message>> {
    let output = cargo
        .args(["--quiet", "--message-format=json-render-diagnostics"])
        .args(["--package", package, "--profile", profile])
        .args(target)
        .current_dir(workspace()?)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "cargo cannot build {package} ({})",
        output.status
    );
    Ok(parsed(&String::from_utf8_lossy(&output.stdout)))
}

fn parsed(messages: &str) -> Vec<Message> {
    let messages = messages.lines();
    messages
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// A copy without symbols and debug information, most of a program's size, which an emulated CPU would have to unpack.
/// The program itself, if `strip` fails.
fn stripped(program: PathBuf) -> Result<PathBuf> {
    let dir = program.parent().context("a file is in a folder")?;
    let name = program.file_name().context("a program has a name")?;
    let dir = dir.join("stripped");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    // Other processes may be reading the last copy.
    let work = tempfile::tempdir_in(&dir)?;
    let new = work.path().join(name);
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&new).arg(&program);
    if !strip.output().is_ok_and(|output| output.status.success()) {
        return Ok(program);
    }
    let copy = dir.join(name);
    fs::rename(&new, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
    Ok(copy)
}

/// A command of Cargo for an architecture.
fn cargo(arch: Arch, command: &str, kind: Kind) -> Result<Command> {
    match arch {
        Arch::X86_64 => {
            let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut cargo = Command::new(cargo);
            cargo.arg(command);
            Ok(cargo)
        }
        // Another version of Rust builds into a folder of its own.
        Arch::Arm64 => {
            let target = env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
            let target = workspace()?.join(target).join("arm64");
            Ok(Cross::get(&Cache::open()?)?.cargo(command, &target, kind))
        }
    }
}

/// The fields of Cargo's messages that are used.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    #[serde(default)]
    kind: Vec<String>,
}

/// The program of this name, or else the shared library. Another library can have a program's name; only the program is
/// executable.
fn built(messages: Vec<Message>, name: &str) -> Option<PathBuf> {
    let mut messages = messages.into_iter().filter(|message| {
        let target = message.target.as_ref();
        target.is_some_and(|target| target.name == name)
    });
    messages.find_map(|message| {
        let shared = message.target.is_some_and(|own| own.kind == ["cdylib"]);
        let library = message.filenames.into_iter().next();
        message.executable.or(library.filter(|_| shared))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stripped_program_runs_and_is_smaller() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("tests");
        fs::copy(env::current_exe().unwrap(), &program).unwrap();
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        // The second time there is a copy already.
        for _ in 0..2 {
            let copy = stripped(program.clone()).unwrap();
            assert!(size(&copy) < size(&program) / 2);
            let listed = Command::new(&copy).arg("--list").output().unwrap();
            assert!(listed.status.success(), "{listed:?}");
        }
        let text = dir.path().join("text");
        fs::write(&text, "text").unwrap();
        assert_eq!(stripped(text.clone()).unwrap(), text);
    }

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"init","kind":["bin"]},"executable":"/t/debug/init"}
{"reason":"compiler-artifact","target":{"name":"hugebar","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"hugebar","kind":["bin"]},"executable":"/t/debug/hugebar"}
{"reason":"compiler-artifact","target":{"name":"own","kind":["lib"]},"filenames":["/t/debug/libown.rlib"],"executable":null}
{"reason":"compiler-artifact","target":{"name":"pre","kind":["cdylib"]},"filenames":["/t/debug/libpre.so"],"executable":null}
{"reason":"build-finished","success":true}
"#;
        for (name, path) in [
            ("init", Some("/t/debug/init")),
            ("serde", None),
            ("hugebar", Some("/t/debug/hugebar")),
            ("own", None),
            ("pre", Some("/t/debug/libpre.so")),
        ] {
            let found = built(parsed(messages), name);
            assert_eq!(found, path.map(PathBuf::from), "{name}");
        }
    }
}
