//! Builds and installs the library for C and C++ (`crates/hugebar-capi`).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::programs;

mod clients;

pub use clients::{Installed, Link};

/// Cargo's profile for users: optimised, and panics unwind.
pub const PROFILE: &str = "capi";

const PACKAGE: &str = "hugebar-capi";

/// The name that programs are linked to; crates/hugebar-capi/build.rs writes it into the library. A release with another
/// first number (before 1.0, with an incompatible change) gets another one.
pub const SONAME: &str = "libhugebar.so.0";

/// What Rust's standard library needs of the system, for static linking: rustc's `--print native-static-libs`.
const SYSTEM_LIBRARIES: &str = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc";

/// Where to install.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// Where the files are used, an absolute path.
    pub prefix: &'a Path,
    /// The folder for libraries below the prefix.
    pub libdir: &'a Path,
    /// The folder to put in front of all paths.
    pub destdir: Option<&'a Path>,
}

impl Destination<'_> {
    /// Where a file that is used below the prefix is put.
    fn at(&self, path: &Path) -> Result<PathBuf> {
        let used = self.prefix.join(path);
        match self.destdir {
            None => Ok(used),
            Some(destdir) => Ok(destdir.join(used.strip_prefix("/")?)),
        }
    }
}

/// Builds the library with a profile of Cargo, and installs it with its header and a file for pkg-config. Returns what was
/// installed. With another profile than [`PROFILE`] it can make system calls fail, for tests.
///
/// # Errors
/// If it cannot be built, or a file cannot be written.
pub fn install(destination: &Destination<'_>, profile: &str) -> Result<Vec<PathBuf>> {
    ensure!(
        destination.prefix.is_absolute() && destination.libdir.is_relative(),
        "the prefix is an absolute path, and the folder for libraries lies below it"
    );
    let built = programs::libraries(PACKAGE, profile, profile != PROFILE)?;
    let of_kind = |ending: &str| {
        let mut built = built.iter();
        let file = built.find(|file| file.extension().is_some_and(|own| own == ending));
        file.with_context(|| format!("cargo has built no {ending} of {PACKAGE}"))
    };
    let version = env!("CARGO_PKG_VERSION");
    let lib = destination.at(destination.libdir)?;
    let include = destination.at("include".as_ref())?;
    let pkgconfig = lib.join("pkgconfig");
    for folder in [&lib, &include, &pkgconfig] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/hugebar-capi/include");
    let shared = lib.join(format!("libhugebar.so.{version}"));
    let mut installed = vec![
        put(of_kind("so")?, &shared, 0o755)?,
        put(of_kind("a")?, &lib.join("libhugebar.a"), 0o644)?,
        put(&header.join("hugebar.h"), &include.join("hugebar.h"), 0o644)?,
    ];
    for (name, target) in [
        (SONAME, format!("libhugebar.so.{version}")),
        ("libhugebar.so", SONAME.to_owned()),
    ] {
        let link = lib.join(name);
        replace(&link, |new| symlink(&target, new))?;
        installed.push(link);
    }
    let text = pkg_config(destination, version);
    let file = pkgconfig.join("hugebar.pc");
    replace(&file, |new| fs::write(new, &text))?;
    installed.push(file);
    Ok(installed)
}

fn pkg_config(destination: &Destination<'_>, version: &str) -> String {
    format!(
        "prefix={}\n\
         libdir=${{prefix}}/{}\n\
         includedir=${{prefix}}/include\n\
         \n\
         Name: hugebar\n\
         Description: PCI BARs with the largest pages the kernel can use\n\
         Version: {version}\n\
         Libs: -L${{libdir}} -lhugebar\n\
         Libs.private: {SYSTEM_LIBRARIES}\n\
         Cflags: -I${{includedir}}\n",
        destination.prefix.display(),
        destination.libdir.display(),
    )
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<PathBuf> {
    replace(to, |new| {
        fs::copy(from, new)?;
        fs::set_permissions(new, fs::Permissions::from_mode(mode))
    })?;
    Ok(to.to_owned())
}

/// Makes a file beside its place and moves it there, because programs may run that have mapped the old one.
fn replace(file: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let made = fs::remove_file(&new).or(Ok(())).and_then(|()| make(&new));
    let done = made.and_then(|()| fs::rename(&new, file));
    done.with_context(|| format!("cannot install {}", file.display()))
}
