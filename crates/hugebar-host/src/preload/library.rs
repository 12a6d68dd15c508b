//! The library itself, and the loader's variable that names it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::refusal::{Reason, Refusal};

/// The loader's variable that names libraries to load first.
pub const VARIABLE: &str = "LD_PRELOAD";

const NAME: &str = "libhugebar_preload.so";

/// Where the library can be, from the folder of the program that looks for it: beside it, or where distributions
/// install libraries.
const FOLDERS: [&str; 5] = [
    "",
    "../lib/hugebar",
    "../lib64/hugebar",
    "../lib",
    "../lib64",
];

/// The path of `libhugebar_preload.so`: beside this program (`/proc/self/exe`), or installed with it.
pub fn library() -> Option<PathBuf> {
    beside(&env::current_exe().ok()?)
}

fn beside(program: &Path) -> Option<PathBuf> {
    let folder = program.parent()?;
    let paths = FOLDERS.iter().map(|other| folder.join(other).join(NAME));
    let there = paths.filter(|path| path.is_file());
    there.filter_map(|path| path.canonicalize().ok()).next()
}

/// The value of [`VARIABLE`] with the library before what was there.
///
/// # Errors
/// [`Reason::LibraryPath`] if the variable cannot hold the library's path.
pub fn value(library: &Path, before: Option<&OsStr>) -> Result<OsString, Refusal> {
    let path = library.as_os_str().as_bytes();
    if path.iter().any(|byte| b" \t\n:$".contains(byte)) {
        return Err(Refusal {
            path: library.to_owned(),
            reason: Reason::LibraryPath,
        });
    }
    let mut value = library.as_os_str().to_owned();
    let before = before.unwrap_or_default();
    let separators = |byte: &u8| b" \t\n:".contains(byte);
    let others = before.as_bytes().split(separators);
    for other in others.filter(|other| !other.is_empty() && *other != path) {
        value.push(":");
        value.push(OsStr::from_bytes(other));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn it_is_beside_the_program_or_installed() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path().canonicalize().unwrap();
        let program = root.join("bin/hugebar");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("lib/hugebar")).unwrap();
        assert_eq!(beside(&program), None);
        for place in ["lib", "lib/hugebar", "bin"] {
            let path = root.join(place).join(NAME);
            fs::write(&path, "").unwrap();
            assert_eq!(beside(&program), Some(path));
        }
    }

    #[test]
    fn what_was_in_the_variable_stays() {
        let of = |before: Option<&str>| {
            let before = before.map(OsStr::new);
            value(Path::new("/l/own.so"), before).unwrap()
        };
        assert_eq!(of(None), "/l/own.so");
        assert_eq!(of(Some("")), "/l/own.so");
        assert_eq!(of(Some("libasan.so /x.so")), "/l/own.so:libasan.so:/x.so");
        assert_eq!(of(Some("/x.so:/l/own.so")), "/l/own.so:/x.so");
        for wrong in ["/a b/own.so", "/a:b/own.so", "/$LIB/own.so"] {
            assert!(value(Path::new(wrong), None).is_err(), "{wrong}");
        }
    }
}
