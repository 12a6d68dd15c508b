//! That `rust-version` is true: Debian 13's own Rust, which is of that version, builds library and command.

use std::path::Path;
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
fn the_oldest_rust_builds_library_and_command() {
    let wanted = env!("CARGO_PKG_RUST_VERSION");
    let toolchain = Toolchain::get(&Cache::open().unwrap()).unwrap();
    for (name, mut program) in [("rustc", toolchain.rustc()), ("cargo", toolchain.cargo())] {
        let version = run(program.arg("--version"));
        assert!(
            version.starts_with(&format!("{name} {wanted}.")),
            "{version}"
        );
    }

    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("rust-{wanted}"));
    // Each for itself: together, the command would be built on a library with all features.
    for arguments in [
        "-p hugebar --all-features",
        "-p hugebar-host --all-features",
        "-p hugebar-cli",
    ] {
        run(toolchain
            .cargo()
            .args(["build", "--locked", "--quiet"])
            .args(arguments.split(' '))
            .arg("--target-dir")
            .arg(&target)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")));
    }
    let version = run(Command::new(target.join("debug/hugebar")).arg("--version"));
    assert!(version.starts_with("hugebar "), "{version}");
}
