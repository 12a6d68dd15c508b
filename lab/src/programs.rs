//! Builds programs of this workspace for the guest, when they are first needed and once per process.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::arch::Arch;
use crate::cache::Cache;
use crate::cross::Cross;

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
    once(
        Arch::X86_64,
        package,
        name,
        &["--example", name, "--all-features"],
        profile,
    )
}

/// A shared library of this workspace, with this package and name of its target; as [`program`] otherwise.
///
/// # Errors
/// If it cannot be built.
pub fn shared_library(package: &str, name: &str, profile: &str) -> Result<PathBuf> {
    once(Arch::X86_64, package, name, &["--lib"], profile)
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
    let path = build(arch, package, name, target, profile)?;
    built.insert(key, path.clone());
    Ok(path)
}

fn build(arch: Arch, package: &str, name: &str, target: &[&str], profile: &str) -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the lab lies within the workspace")?;
    let command = if target == UNIT_TESTS {
        "test"
    } else {
        "build"
    };
    let output = cargo(arch, command, workspace)?
        .args(["--quiet", "--message-format=json-render-diagnostics"])
        .args(["--package", package, "--profile", profile])
        .args(target)
        .current_dir(workspace)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "cargo cannot build {name} ({})",
        output.status
    );
    built(&String::from_utf8_lossy(&output.stdout), name)
        .with_context(|| format!("cargo has built no program {name}"))
}

/// A command of Cargo for an architecture.
fn cargo(arch: Arch, command: &str, workspace: &Path) -> Result<Command> {
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
            let target = workspace.join(target).join("arm64");
            Ok(Cross::get(&Cache::open()?)?.cargo(command, &target))
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
fn built(messages: &str, name: &str) -> Option<PathBuf> {
    let mut messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| {
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
            assert_eq!(built(messages, name), path.map(PathBuf::from), "{name}");
        }
    }
}
