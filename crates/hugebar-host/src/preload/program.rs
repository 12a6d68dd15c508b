//! Finds programs as `execvp` does, and whether the loader would load a library into them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags, access, getxattr, statvfs};
use rustix::io::Errno;
use rustix::process::{getgid, getuid};

use super::elf::{self, Loading};
use super::refusal::{Reason, Refusal};

/// How many interpreters the kernel follows.
const NESTED: usize = 4;

/// How much of a script's first line the kernel reads (`BINPRM_BUF_SIZE`).
const FIRST_LINE: u64 = 256;

/// A program that the library can be loaded into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
    interpreter: Option<PathBuf>,
}

/// Who starts the program.
#[derive(Clone, Copy, Debug)]
struct Caller {
    uid: u32,
    gid: u32,
}

impl Program {
    /// Finds a program in `PATH`, or by its path, and checks it. For a script, its interpreter is checked.
    ///
    /// # Errors
    /// [`Refusal`] if there is none, or if a library cannot be loaded into it.
    pub fn find(name: &OsStr) -> Result<Self, Refusal> {
        let path = located(name, env::var_os("PATH"))?;
        let caller = Caller {
            uid: getuid().as_raw(),
            gid: getgid().as_raw(),
        };
        let last = checked(&path, caller)?;
        Ok(Self {
            interpreter: (last != path).then_some(last),
            path,
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For a script, the program that interprets it.
    pub fn interpreter(&self) -> Option<&Path> {
        self.interpreter.as_deref()
    }
}

fn refuse(path: &Path, reason: Reason) -> Refusal {
    let path = path.to_owned();
    Refusal { path, reason }
}

/// The path of a program, by its name and the value of `PATH`.
fn located(name: &OsStr, path: Option<OsString>) -> Result<PathBuf, Refusal> {
    let name = Path::new(name);
    if name.as_os_str().as_bytes().contains(&b'/') {
        return match access(name, Access::EXISTS) {
            Ok(()) => Ok(name.to_owned()),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(refuse(name, Reason::NotFound)),
            Err(errno) => Err(refuse(name, Reason::Unreadable(errno.into()))),
        };
    }
    let path = path.unwrap_or_else(|| "/bin:/usr/bin".into());
    let there = env::split_paths(&path).map(|folder| match folder.as_os_str().is_empty() {
        true => Path::new(".").join(name),
        false => folder.join(name),
    });
    let mut fits = there.filter(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok());
    fits.next().ok_or_else(|| refuse(name, Reason::NotFound))
}

/// Follows the interpreters of scripts to an ELF program, and checks that.
fn checked(path: &Path, caller: Caller) -> Result<PathBuf, Refusal> {
    let mut path = path.to_owned();
    for _ in 0..=NESTED {
        let unreadable = |error| refuse(&path, Reason::Unreadable(error));
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refuse(&path, Reason::NotFound));
            }
            Err(error) => return Err(unreadable(error)),
        };
        let data = file.metadata().map_err(unreadable)?;
        if !data.is_file() || access(&path, Access::EXEC_OK).is_err() {
            return Err(refuse(&path, Reason::NotExecutable));
        }
        if let Some(program) = elf::read(&file) {
            return match problem(&program, &path, &data, caller) {
                Some(reason) => Err(refuse(&path, reason)),
                None => Ok(path),
            };
        }
        io::Seek::rewind(&mut file).map_err(unreadable)?;
        let mut line = Vec::new();
        let read = file.take(FIRST_LINE).read_to_end(&mut line);
        read.map_err(unreadable)?;
        match interpreter(&line) {
            Some(next) => path = next,
            None => return Err(refuse(&path, Reason::Format)),
        }
    }
    Err(refuse(&path, Reason::Nested))
}

/// The interpreter that a script's first line names.
fn interpreter(line: &[u8]) -> Option<PathBuf> {
    let line = line.strip_prefix(b"#!")?;
    let line = line.split(|&byte| byte == b'\n').next()?;
    let mut words = line.split(|byte| b" \t".contains(byte));
    let path = words.find(|word| !word.is_empty())?;
    Some(PathBuf::from(OsString::from_vec(path.to_vec())))
}

/// Why a library cannot be loaded into an ELF program.
fn problem(program: &elf::Program, path: &Path, data: &Metadata, caller: Caller) -> Option<Reason> {
    if program.machine != Some(elf::OWN_MACHINE) {
        return Some(Reason::Architecture(elf::name(program.machine)));
    }
    let loader = match &program.loading {
        Loading::By(loader) | Loading::Object(loader) => loader,
        Loading::Alone => return Some(Reason::Static),
    };
    let name = loader.rsplit('/').next().unwrap_or_default();
    if name.contains("musl") {
        return Some(Reason::Musl);
    }
    // A loader that is started itself, `ld-linux-x86-64.so.2 PROGRAM`, loads libraries from the environment too.
    if !name.starts_with("ld-linux") {
        return Some(match &program.loading {
            Loading::By(_) => Reason::Loader(loader.clone()),
            _ => Reason::Static,
        });
    }
    privileged(path, data, caller)
}

/// Whether the kernel starts it with other privileges, so that the loader distrusts the environment (`AT_SECURE`).
fn privileged(path: &Path, data: &Metadata, caller: Caller) -> Option<Reason> {
    const SET_USER: u32 = 0o4000;
    const SET_GROUP: u32 = 0o2010;
    let mount = statvfs(path).map(|mount| mount.f_flag);
    if mount.is_ok_and(|flags| flags.contains(StatVfsMountFlags::NOSUID)) {
        return None;
    }
    let user = data.mode() & SET_USER != 0 && data.uid() != caller.uid;
    let group = data.mode() & SET_GROUP == SET_GROUP && data.gid() != caller.gid;
    if user || group {
        return Some(Reason::SetId);
    }
    let mut value = [0_u8; 64];
    let capable = getxattr(path, "security.capability", &mut value).is_ok();
    (capable && caller.uid != 0).then_some(Reason::Capabilities)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::process::Command;

    use rustix::fs::{XattrFlags, setxattr};
    use tempfile::TempDir;

    use super::*;

    const ROOT: Caller = Caller { uid: 0, gid: 0 };
    const OTHER: Caller = Caller {
        uid: 65_534,
        gid: 65_534,
    };

    /// A folder with a file of these bits.
    fn with(name: &str, content: &[u8], mode: u32) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    fn reason(path: &Path, caller: Caller) -> Option<String> {
        checked(path, caller)
            .err()
            .map(|refusal| refusal.reason.to_string())
    }

    fn assert_refused(path: &Path, caller: Caller, words: &str) {
        let reason = reason(path, caller).unwrap();
        assert!(reason.contains(words), "{reason}");
    }

    #[test]
    fn programs_of_this_machine_can_be_reached() {
        let own = env::current_exe().unwrap();
        for path in ["/bin/true".as_ref(), own.as_path()] {
            assert_eq!(checked(path, OTHER).unwrap(), path);
        }
        let found = Program::find("true".as_ref()).unwrap();
        assert!(found.path().ends_with("true") && found.path().is_absolute());
        assert_eq!(found.interpreter(), None);
        for missing in ["no-such-program", "/no/such", "/bin/true/x"] {
            let refusal = Program::find(missing.as_ref()).unwrap_err();
            assert!(matches!(refusal.reason, Reason::NotFound), "{refusal}");
            assert_eq!(refusal.to_string(), format!("{missing}: no such program"));
        }
    }

    /// `ld-linux-x86-64.so.2 PROGRAM`.
    #[test]
    fn the_loader_itself_can_be_reached() {
        let own = elf::read(&File::open("/bin/true").unwrap()).unwrap();
        let Loading::By(loader) = own.loading else {
            panic!("{own:?}");
        };
        let loader = fs::canonicalize(loader).unwrap();
        let read = elf::read(&File::open(&loader).unwrap()).unwrap();
        assert!(matches!(&read.loading, Loading::Object(name) if name.starts_with("ld-linux")));
        assert_eq!(checked(&loader, OTHER).unwrap(), loader);
    }

    #[test]
    fn scripts_are_as_good_as_their_interpreters() {
        let (_folder, script) = with("script", b"#! /bin/sh -e\nexit 0\n", 0o755);
        let shell = checked(&script, OTHER).unwrap();
        assert_eq!(shell, Path::new("/bin/sh"));
        let found = Program::find(script.as_os_str()).unwrap();
        assert_eq!(found.interpreter(), Some(Path::new("/bin/sh")));
        for (content, words) in [
            ("#!/no/such\n", "no such program"),
            ("#!\n", "neither"),
            ("echo", "neither"),
            ("", "neither"),
        ] {
            let (_folder, script) = with("script", content.as_bytes(), 0o755);
            assert_refused(&script, OTHER, words);
        }
        let (folder, own) = with("own", b"", 0o755);
        fs::write(&own, format!("#!{}\n", own.display())).unwrap();
        assert_refused(&own, OTHER, "nested too deep");
        assert_refused(folder.path(), OTHER, "not executable");
        let (_folder, plain) = with("plain", &fs::read("/bin/true").unwrap(), 0o644);
        assert_refused(&plain, OTHER, "not executable");
    }

    #[test]
    fn a_static_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (source, program) = (folder.path().join("x.rs"), folder.path().join("x"));
        fs::write(&source, "fn main() {}").unwrap();
        let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let built = Command::new(rustc)
            .args([
                "--target",
                &target,
                "-C",
                "target-feature=+crt-static",
                "-o",
            ])
            .args([&program, &source])
            .status();
        assert!(built.unwrap().success());
        assert_refused(&program, OTHER, "linked statically");
    }

    /// This machine's `true`, with another loader or machine in its header.
    #[test]
    fn other_loaders_and_machines_are_refused() {
        let bytes = fs::read("/bin/true").unwrap();
        let loader = b"/lib64/ld-linux-x86-64.so.2";
        let place = bytes.windows(loader.len()).position(|part| part == loader);
        if let Some(place) = place {
            for (other, words) in [
                (&b"/lib/ld-musl-x86_64.so.1\0"[..], "uses musl"),
                (
                    b"/system/bin/linker64\0",
                    "uses the loader \"/system/bin/linker64\"",
                ),
            ] {
                let mut changed = bytes.clone();
                changed[place..place + other.len()].copy_from_slice(other);
                let (_folder, program) = with("program", &changed, 0o755);
                assert_refused(&program, OTHER, words);
            }
        }
        for (offset, value, words) in [
            (4, 1, "is for a processor of 32 bits"),
            (18, 243, "is for riscv64"),
            (18, 22, "is for s390x"),
        ] {
            let mut changed = bytes.clone();
            changed[offset] = value;
            let (_folder, program) = with("program", &changed, 0o755);
            assert_refused(&program, OTHER, words);
        }
    }

    #[test]
    fn other_privileges_are_refused() {
        let bytes = fs::read("/bin/true").unwrap();
        let (_folder, program) = with("program", &bytes, 0o755);
        let own = fs::metadata(&program).unwrap();
        let caller = Caller {
            uid: own.uid(),
            gid: own.gid(),
        };
        let other = Caller {
            uid: own.uid() + 1,
            gid: own.gid() + 1,
        };
        for (mode, caller, refused) in [
            (0o755, other, false),
            (0o4755, caller, false),
            (0o4755, other, true),
            (0o2755, caller, false),
            (0o2755, other, true),
            // Without the group's execute bit it means something else.
            (0o2745, other, false),
        ] {
            fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
            let is_refused = reason(&program, caller).is_some();
            assert_eq!(is_refused, refused, "{mode:o} {caller:?}");
        }
        // Only root can give capabilities to a file.
        if own.uid() != 0 || chown(&program, Some(0), Some(0)).is_err() {
            return;
        }
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let mut value = [0_u8; 20];
        // `struct vfs_cap_data`: revision 2, effective, CAP_NET_RAW.
        value[..5].copy_from_slice(&[1, 0, 0, 2, 0]);
        value[5] = 1 << 5;
        if setxattr(&program, "security.capability", &value, XattrFlags::empty()).is_ok() {
            assert_refused(&program, OTHER, "file capabilities");
            assert_eq!(reason(&program, ROOT), None);
        }
    }
}
