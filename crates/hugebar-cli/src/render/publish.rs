//! Files for other programs, which appear whole.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Who may read a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Readers {
    /// Every user.
    All,
    /// Only its owner.
    Own,
}

/// Writes a file.
///
/// It is written under another name in the same folder and renamed, so that a reader sees the old or the new one.
/// That name begins with a dot and has another ending: neither the textfile collector nor NFD reads such files.
pub(crate) fn replace(file: &Path, text: &str, readers: Readers) -> io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut own = tempfile::Builder::new()
        .prefix(".hugebar-")
        .suffix(".new")
        .tempfile_in(folder)
        // Without the name that the file would have had, which means nothing to a user.
        .map_err(|error| {
            let missing = fs::metadata(folder).err();
            missing.unwrap_or_else(|| error.kind().into())
        })?;
    own.write_all(text.as_bytes())?;
    if matches!(readers, Readers::All) {
        own.as_file()
            .set_permissions(Permissions::from_mode(0o644))?;
    }
    own.persist(file).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_can_be_read_by_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hugebar.prom");
        fs::write(&file, "old, and longer").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let before = fs::File::open(&file).unwrap();
        replace(&file, "new\n", Readers::All).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new\n");
        assert_eq!(io::read_to_string(before).unwrap(), "old, and longer");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        replace(&file, "new\n", Readers::Own).unwrap();
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let names = || fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names(), 1);
        // Where it cannot be renamed, nothing is left behind.
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        replace(&taken, "new\n", Readers::All).unwrap_err();
        assert_eq!(names(), 2);
        let missing = replace(&taken.join("no/file"), "new\n", Readers::All);
        assert_eq!(missing.unwrap_err().raw_os_error(), Some(2));
        // A folder that cannot have files.
        let below = replace(&file.join("below"), "new\n", Readers::All).unwrap_err();
        assert_eq!(below.kind(), io::ErrorKind::NotADirectory);
        assert!(!below.to_string().contains("hugebar-"), "{below}");
    }
}
