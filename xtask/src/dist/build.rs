//! Builds what goes into the packages.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::commit::Commit;
use super::licences;

/// Separates the flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\x1f";

/// Shells with completions, and where they look for them.
pub(super) const SHELLS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/hugebar"),
    ("zsh", "usr/share/zsh/vendor-completions/_hugebar"),
    ("fish", "usr/share/fish/vendor_completions.d/hugebar.fish"),
];

/// What has been built.
pub(super) struct Build {
    /// The checkout.
    pub(super) workspace: PathBuf,
    /// Debian's name of the architecture, and of its folder for libraries.
    pub(super) arch: String,
    pub(super) triplet: String,
    /// Stripped.
    pub(super) program: PathBuf,
    pub(super) preload: PathBuf,
    /// The folder in which `cargo xtask install-c` has put the library for C.
    pub(super) library: PathBuf,
    /// The folder of the manual pages.
    pub(super) pages: PathBuf,
    /// The completions for [`SHELLS`].
    pub(super) completions: Vec<Vec<u8>>,
    /// The licences of the crates in the command, and in the library for C.
    pub(super) licences: [String; 2],
}

impl Build {
    /// Builds everything below `target/packages`.
    pub(super) fn make(workspace: &Path, commit: &Commit) -> Result<Self> {
        let folder = workspace.join("target/packages");
        let made = folder.join("made");
        if made.exists() {
            fs::remove_dir_all(&made)?;
        }
        fs::create_dir_all(&made)?;
        let flags = flags(workspace)?;
        let reproducible = |command: &mut Command| {
            command
                .current_dir(workspace)
                .env("CARGO_ENCODED_RUSTFLAGS", &flags)
                .env("CARGO_TARGET_DIR", &folder)
                .env("CARGO_INCREMENTAL", "0")
                .env("SOURCE_DATE_EPOCH", &commit.epoch);
            run(command)
        };
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        reproducible(
            Command::new(cargo)
                .args(["build", "--release", "--locked"])
                .args(["--package", "hugebar-cli", "--package", "hugebar-preload"]),
        )?;
        let triplet = output("dpkg-architecture", &["--query", "DEB_HOST_MULTIARCH"])?;
        let library = made.join("library");
        let libdir = format!("lib/{triplet}");
        reproducible(
            Command::new(env::current_exe()?)
                .args(["install-c", "--prefix", "/usr", "--libdir", &libdir])
                .arg("--destdir")
                .arg(&library)
                .stdout(Stdio::null()),
        )?;
        let lib = library.join("usr").join(&libdir);
        strip(
            &lib.join("libhugebar.a"),
            None,
            &["--strip-debug", "--enable-deterministic-archives"],
        )?;
        let shared = lib.join(concat!("libhugebar.so.", env!("CARGO_PKG_VERSION")));
        strip(&shared, None, &["--strip-unneeded"])?;
        let own = |name: &str| {
            let (from, to) = (folder.join("release").join(name), made.join(name));
            strip(&from, Some(&to), &["--strip-unneeded"]).map(|()| to)
        };
        let program = own("hugebar")?;
        let pages = made.join("man");
        fs::create_dir(&pages)?;
        run(Command::new(&program).args(["man", "--output"]).arg(&pages))?;
        let completions = SHELLS.iter().map(|(shell, _)| {
            let output = Command::new(&program)
                .args(["completions", shell])
                .output()?;
            ensure!(
                output.status.success(),
                "completions {shell}: {}",
                output.status
            );
            Ok(output.stdout)
        });
        Ok(Self {
            preload: own("libhugebar_preload.so")?,
            arch: output("dpkg", &["--print-architecture"])?,
            completions: completions.collect::<Result<_>>()?,
            licences: [
                licences::of(workspace, "hugebar-cli")?,
                licences::of(workspace, "hugebar-capi")?,
            ],
            workspace: workspace.to_owned(),
            triplet,
            program,
            library,
            pages,
        })
    }
}

/// rustc's flags: no path of this machine gets into what is built, and not what only this workspace's tests need
/// (`.cargo/config.toml`).
fn flags(workspace: &Path) -> Result<OsString> {
    let home = env::var_os("HOME").unwrap_or_default();
    let home =
        env::var_os("CARGO_HOME").map_or_else(|| Path::new(&home).join(".cargo"), PathBuf::from);
    let mut remapped = vec![(workspace.to_owned(), "/hugebar")];
    let registries = home.join("registry/src");
    if registries.exists() {
        for registry in fs::read_dir(&registries)? {
            remapped.push((registry?.path(), "/crates"));
        }
    }
    let mut flags = OsString::new();
    for (path, name) in remapped {
        if !flags.is_empty() {
            flags.push(SEPARATOR);
        }
        flags.push("--remap-path-prefix=");
        flags.push(path);
        flags.push(format!("={name}"));
    }
    Ok(flags)
}

/// Removes symbols that nobody needs, in place or into another file.
fn strip(file: &Path, to: Option<&Path>, arguments: &[&str]) -> Result<()> {
    let mut strip = Command::new("strip");
    strip
        .args(arguments)
        .args(["--remove-section=.comment", "--remove-section=.note"]);
    if let Some(to) = to {
        strip.arg("-o").arg(to);
    }
    run(strip.arg(file))
}

/// Runs a program that has to succeed.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// What a program prints.
fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
