//! Checks `rust-version`: Debian 13's own Rust, which has that version, builds libraries and command. Also checks that the
//! public interface of the libraries, as the same Rust sees it, matches `docs/api`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hugebar_lab::cache::Cache;
use hugebar_lab::toolchain::Toolchain;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_oldest_rust_builds_libraries_and_command() {
    let wanted = env!("CARGO_PKG_RUST_VERSION");
    let toolchain = Toolchain::get(&Cache::open().unwrap()).unwrap();
    for (name, mut program) in [("rustc", toolchain.rustc()), ("cargo", toolchain.cargo())] {
        let version = run(program.arg("--version"));
        assert!(
            version.starts_with(&format!("{name} {wanted}.")),
            "{version}"
        );
    }

    // Build each alone: together, the command would use a library with all features.
    for arguments in [
        "-p hugebar --all-features",
        "-p hugebar-host --all-features",
        "-p hugebar-cli",
        "-p hugebar-capi",
    ] {
        run(cargo(&toolchain, "build").args(arguments.split(' ')));
    }
    let version = run(Command::new(target().join("debug/hugebar")).arg("--version"));
    assert!(version.starts_with("hugebar "), "{version}");
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn target() -> PathBuf {
    let name = concat!("rust-", env!("CARGO_PKG_RUST_VERSION"));
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn cargo(toolchain: &Toolchain, command: &str) -> Command {
    let mut cargo = toolchain.cargo();
    cargo
        .args([command, "--locked", "--quiet", "--target-dir"])
        .arg(target())
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .current_dir(workspace());
    cargo
}

#[test]
fn the_public_interface_is_as_listed() {
    let toolchain = Toolchain::get(&Cache::open().unwrap()).unwrap();
    for package in ["hugebar", "hugebar-host"] {
        run(cargo(&toolchain, "rustdoc")
            .args(["-p", package, "--all-features", "--"])
            .args(["-Z", "unstable-options", "--output-format", "json"])
            .env("RUSTC_BOOTSTRAP", "1"));
        let json = format!("doc/{}.json", package.replace('-', "_"));
        let interface = public_api::Builder::from_rustdoc_json(target().join(json))
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(true)
            .omit_auto_derived_impls(true)
            .build()
            .unwrap();
        let interface: String = interface.items().map(|item| format!("{item}\n")).collect();
        let file = workspace().join(format!("docs/api/{package}.txt"));
        if std::env::var_os("HUGEBAR_UPDATE_API").is_some() {
            fs::write(&file, &interface).unwrap();
        }
        let listed = fs::read_to_string(&file).unwrap_or_default();
        let (listed, found): (BTreeSet<_>, BTreeSet<_>) =
            (listed.lines().collect(), interface.lines().collect());
        let gone: Vec<_> = listed.difference(&found).collect();
        let new: Vec<_> = found.difference(&listed).collect();
        assert!(
            gone.is_empty() && new.is_empty(),
            "the public interface of {package} has changed: gone {gone:#?}, new {new:#?}; if that is meant, say so in \
             CHANGELOG.md and run the test again with HUGEBAR_UPDATE_API=1"
        );
    }
}
