//! Why a program cannot be started with the library.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the library cannot reach a program.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// There is no such file, or no such program in `PATH`.
    NotFound,
    /// It could not be read.
    Unreadable(io::Error),
    /// It may not be executed.
    NotExecutable,
    /// It is neither an ELF program nor a script.
    Format,
    /// A script whose interpreter is a script, and so on, more often than the kernel allows.
    Nested,
    /// It is linked statically, so no loader runs that could load the library.
    Static,
    /// It uses musl as its libc.
    Musl,
    /// It uses an unknown loader.
    Loader(String),
    /// It is for another architecture than this command and the library.
    Architecture(String),
    /// It runs as another user or group than its caller.
    SetId,
    /// It has capabilities that its caller may lack.
    Capabilities,
    /// The loader takes a colon or a blank in the path of a library as the end of the path, and expands `$`.
    LibraryPath,
}

/// A file that cannot be used, and why.
#[derive(Debug)]
pub struct Refusal {
    /// The file: of a script, the interpreter that was examined last.
    pub path: PathBuf,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "no such program",
            Self::Unreadable(error) => return error.fmt(f),
            Self::NotExecutable => "not executable",
            Self::Format => "neither an ELF program nor a script",
            Self::Nested => "interpreters are nested too deep",
            Self::Static => "is linked statically: no library can be loaded before it",
            Self::Musl => "uses musl: the library is for programs that use glibc",
            Self::Loader(name) => {
                return write!(
                    f,
                    "uses the loader {name:?}: the library is for programs that use glibc"
                );
            }
            Self::Architecture(name) => {
                return write!(
                    f,
                    "is for {name}: the library is for {}",
                    std::env::consts::ARCH
                );
            }
            Self::SetId => {
                "is set-user-ID or set-group-ID: the loader ignores libraries from the environment"
            }
            Self::Capabilities => {
                "has file capabilities: the loader ignores libraries from the environment; start it as root"
            }
            Self::LibraryPath => {
                "the loader cannot load a library by a path with a blank, a colon or a dollar sign"
            }
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}
