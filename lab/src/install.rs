//! Finds and installs missing programs and files that the lab needs.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::arch::Arch;

/// What is needed.
#[derive(Clone, Copy)]
enum Need {
    Program(&'static str),
    /// A file for compilers, below `/usr/include`.
    Header(&'static str),
    /// Any other file.
    File(&'static str),
}

/// Something that is needed, and the packages that contain it.
struct Tool {
    need: Need,
    apt: &'static str,
    dnf: &'static str,
    pacman: &'static str,
}

impl Tool {
    /// A program whose package has its name on all distributions.
    const fn of_one_name(name: &'static str) -> Self {
        Tool {
            need: Need::Program(name),
            apt: name,
            dnf: name,
            pacman: name,
        }
    }
}

const SETPRIV: Tool = Tool {
    need: Need::Program("setpriv"),
    apt: "util-linux",
    dnf: "util-linux",
    pacman: "util-linux",
};

const XZ: Tool = Tool {
    need: Need::Program("xz"),
    apt: "xz-utils",
    dnf: "xz",
    pacman: "xz",
};

/// What every machine of the lab needs.
const TOOLS: [Tool; 3] = [
    Tool {
        need: Need::Program("qemu-system-x86_64"),
        apt: "qemu-system-x86",
        dnf: "qemu-system-x86-core",
        pacman: "qemu-system-x86",
    },
    SETPRIV,
    XZ,
];

/// What an arm64 machine and its programs need.
const ARM64_TOOLS: [Tool; 6] = [
    Tool {
        need: Need::Program("qemu-system-aarch64"),
        apt: "qemu-system-arm",
        dnf: "qemu-system-aarch64-core",
        pacman: "qemu-system-aarch64",
    },
    Tool {
        need: Need::Program("aarch64-linux-gnu-gcc"),
        apt: "gcc-aarch64-linux-gnu",
        dnf: "gcc-aarch64-linux-gnu",
        pacman: "aarch64-linux-gnu-gcc",
    },
    // The static C library.
    Tool {
        need: Need::File("/usr/aarch64-linux-gnu/lib/libc.a"),
        apt: "libc6-dev-arm64-cross",
        dnf: "glibc-static-aarch64-linux-gnu",
        pacman: "aarch64-linux-gnu-glibc",
    },
    // For tests that need no kernel of it.
    Tool {
        need: Need::Program("qemu-aarch64"),
        apt: "qemu-user",
        dnf: "qemu-user",
        pacman: "qemu-user",
    },
    SETPRIV,
    XZ,
];

/// What building a kernel needs.
const BUILD_TOOLS: [Tool; 10] = [
    SETPRIV,
    XZ,
    Tool::of_one_name("tar"),
    Tool::of_one_name("gcc"),
    Tool::of_one_name("make"),
    Tool::of_one_name("flex"),
    Tool::of_one_name("bison"),
    Tool::of_one_name("bc"),
    Tool {
        need: Need::Header("libelf.h"),
        apt: "libelf-dev",
        dnf: "elfutils-libelf-devel",
        pacman: "libelf",
    },
    Tool {
        need: Need::Header("openssl/ssl.h"),
        apt: "libssl-dev",
        dnf: "openssl-devel",
        pacman: "openssl",
    },
];

/// What building programs against the library for C needs.
const C_TOOLS: [Tool; 3] = [
    Tool::of_one_name("gcc"),
    Tool {
        need: Need::Program("g++"),
        apt: "g++",
        dnf: "gcc-c++",
        pacman: "gcc",
    },
    Tool {
        need: Need::Program("pkg-config"),
        apt: "pkg-config",
        dnf: "pkgconf-pkg-config",
        pacman: "pkgconf",
    },
];

/// What making packages for Debian needs.
const DIST_TOOLS: [Tool; 3] = [
    Tool {
        need: Need::Program("dpkg-shlibdeps"),
        apt: "dpkg-dev",
        dnf: "dpkg-dev",
        pacman: "dpkg",
    },
    Tool {
        need: Need::Program("strip"),
        apt: "binutils",
        dnf: "binutils",
        pacman: "binutils",
    },
    Tool::of_one_name("gcc"),
];

const DEBOOTSTRAP: [Tool; 1] = [Tool::of_one_name("debootstrap")];

/// A package manager and its command line.
#[derive(Clone, Copy)]
struct Manager {
    program: &'static str,
    /// The shell command, without the names of the packages.
    line: &'static str,
    package: fn(&Tool) -> &'static str,
}

const MANAGERS: [Manager; 3] = [
    Manager {
        program: "apt-get",
        line: "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends",
        package: |tool| tool.apt,
    },
    Manager {
        program: "dnf",
        line: "dnf install --assumeyes",
        package: |tool| tool.dnf,
    },
    Manager {
        program: "pacman",
        line: "pacman --sync --refresh --needed --noconfirm",
        package: |tool| tool.pacman,
    },
];

/// Installs everything that a machine needs and is missing: as root at once, otherwise with
/// sudo after asking, unless `yes` is set.
///
/// # Errors
/// If something is missing and was not installed; the error contains the command to run.
pub fn ensure_all(yes: bool) -> Result<()> {
    ensure_machine(Arch::X86_64, yes)
}

/// The same for a machine of this architecture and its programs.
///
/// # Errors
/// As [`ensure_all`].
pub fn ensure_machine(arch: Arch, yes: bool) -> Result<()> {
    let (tools, installer) = of_machine(arch);
    ensure_tools(tools, installer, yes)
}

/// What a machine needs, and the command of `xtask` that installs it.
fn of_machine(arch: Arch) -> (&'static [Tool], &'static str) {
    match arch {
        Arch::X86_64 => (&TOOLS, "demo"),
        Arch::Arm64 => (&ARM64_TOOLS, "vm --arch arm64"),
    }
}

/// The same for building a kernel of this architecture.
///
/// # Errors
/// As [`ensure_all`].
pub fn ensure_build(arch: Arch, yes: bool) -> Result<()> {
    ensure_tools(&BUILD_TOOLS, "kernel", yes)?;
    // The cross compiler.
    match arch {
        Arch::X86_64 => Ok(()),
        Arch::Arm64 => ensure_machine(arch, yes),
    }
}

/// The same for building programs in C and C++ against the installed library.
///
/// # Errors
/// As [`ensure_all`].
pub fn ensure_c(yes: bool) -> Result<()> {
    ensure_tools(&C_TOOLS, "test", yes)
}

/// The same for making packages for Debian.
///
/// # Errors
/// As [`ensure_all`].
pub fn ensure_dist(yes: bool) -> Result<()> {
    ensure_tools(&DIST_TOOLS, "dist", yes)
}

/// The same for creating a root of Debian.
pub(crate) fn ensure_debootstrap(yes: bool) -> Result<()> {
    ensure_tools(&DEBOOTSTRAP, "soak", yes)
}

/// Checks for everything that a machine needs, without installing it.
///
/// # Errors
/// If something is missing.
pub fn check(arch: Arch) -> Result<()> {
    let (tools, installer) = of_machine(arch);
    check_tools(tools, installer)
}

/// Checks for everything that building a kernel needs, without installing it.
///
/// # Errors
/// If something is missing.
pub fn check_build(arch: Arch) -> Result<()> {
    check_tools(&BUILD_TOOLS, "kernel")?;
    match arch {
        Arch::X86_64 => Ok(()),
        Arch::Arm64 => check(arch),
    }
}

fn ensure_tools(tools: &[Tool], installer: &str, yes: bool) -> Result<()> {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    let line = line(&missing, &MANAGERS, |program| find(program).is_some())?;
    let root = rustix::process::geteuid().is_root();
    let line = if root {
        line
    } else {
        format!("sudo sh -c '{line}'")
    };
    // All of this goes to stderr: stdout belongs to the command in the guest.
    let mut terminal = io::stderr();
    if !root && !yes {
        ensure!(
            io::stdin().is_terminal() && terminal.is_terminal(),
            "{} is missing. Run this, or say --yes to have it run:\n  {line}",
            names(&missing)
        );
        write!(
            terminal,
            "{} is missing. Run this?\n  {line}\n[y/N] ",
            names(&missing)
        )?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        ensure!(
            matches!(answer.trim(), "y" | "Y" | "yes"),
            "{} is missing",
            names(&missing)
        );
    }
    writeln!(terminal, "installing {}: {line}", names(&missing))?;
    let status = Command::new("sh")
        .args(["-c", &line])
        .stdout(Stdio::from(io::stderr()))
        .status()
        .context("cannot run sh")?;
    ensure!(status.success(), "installing failed ({status}): {line}");
    check_tools(tools, installer)
}

fn check_tools(tools: &[Tool], installer: &str) -> Result<()> {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    let hint = line(&missing, &MANAGERS, |program| find(program).is_some())?;
    bail!(
        "{} is missing; `cargo xtask {installer}` installs it, or as root: {hint}",
        names(&missing)
    )
}

fn missing(tools: &[Tool]) -> Vec<&Tool> {
    let is_missing = |tool: &&Tool| match tool.need {
        Need::Program(program) => find(program).is_none(),
        Need::Header(header) => !has_header(header),
        Need::File(file) => !Path::new(file).is_file(),
    };
    tools.iter().filter(is_missing).collect()
}

fn names(tools: &[&Tool]) -> String {
    let names: Vec<_> = tools
        .iter()
        .map(|tool| match tool.need {
            Need::Program(name) | Need::Header(name) | Need::File(name) => name,
        })
        .collect();
    names.join(", ")
}

fn line(missing: &[&Tool], managers: &[Manager], has: impl Fn(&str) -> bool) -> Result<String> {
    let manager = managers
        .iter()
        .find(|manager| has(manager.program))
        .with_context(|| {
            format!(
                "{} is missing, and this machine has none of apt, dnf and pacman: install it by hand",
                names(missing)
            )
        })?;
    let packages: Vec<_> = missing.iter().map(|tool| (manager.package)(tool)).collect();
    Ok(format!("{} {}", manager.line, packages.join(" ")))
}

/// Looks for a program on the `PATH` and in the sbin folders.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn has_header(header: &str) -> bool {
    ["/usr/include", "/usr/include/x86_64-linux-gnu"]
        .iter()
        .any(|dir| Path::new(dir).join(header).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_that_of_the_package_manager_that_is_there() {
        let missing = [&TOOLS[0], &TOOLS[2]];
        let apt = line(&missing, &MANAGERS, |program| program == "apt-get").unwrap();
        assert!(apt.ends_with(" qemu-system-x86 xz-utils"), "{apt}");
        let dnf = line(&missing, &MANAGERS, |program| program == "dnf").unwrap();
        assert_eq!(dnf, "dnf install --assumeyes qemu-system-x86-core xz");
        let headers: Vec<_> = BUILD_TOOLS.iter().rev().take(2).collect();
        let apt = line(&headers, &MANAGERS, |program| program == "apt-get").unwrap();
        assert!(apt.ends_with(" libssl-dev libelf-dev"), "{apt}");
        assert_eq!(names(&headers), "openssl/ssl.h, libelf.h");
        let arm64: Vec<_> = ARM64_TOOLS.iter().take(3).collect();
        let apt = line(&arm64, &MANAGERS, |program| program == "apt-get").unwrap();
        let packages = " qemu-system-arm gcc-aarch64-linux-gnu libc6-dev-arm64-cross";
        assert!(apt.ends_with(packages), "{apt}");
        let none = line(&missing, &MANAGERS, |_| false).unwrap_err();
        assert!(none.to_string().contains("by hand"), "{none}");
    }

    #[test]
    fn programs_are_found_on_the_path_only() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
    }
}
