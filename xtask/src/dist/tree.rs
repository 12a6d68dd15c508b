//! The files of a package, in a folder: with set modes, whatever the umask is.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The folder that becomes `/`.
pub(super) struct Tree(PathBuf);

/// What `dpkg-deb` reads.
pub(super) const CONTROL: &str = "DEBIAN";

impl Tree {
    pub(super) fn new(folder: PathBuf) -> Result<Self> {
        let own = Self(folder);
        own.folder(&own.0.clone())?;
        Ok(own)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Where a file is put; makes its folder.
    fn place(&self, path: &str) -> Result<PathBuf> {
        let place = self.0.join(path);
        let parent = place.parent().context("a file lies in a folder")?;
        self.folder(parent)?;
        Ok(place)
    }

    fn folder(&self, folder: &Path) -> Result<()> {
        let mut missing = Vec::new();
        let mut next = Some(folder);
        while let Some(own) = next.filter(|own| !own.exists()) {
            missing.push(own);
            next = own.parent();
        }
        for own in missing.into_iter().rev() {
            fs::create_dir(own).with_context(|| own.display().to_string())?;
            fs::set_permissions(own, Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// Copies a file; programs and scripts have the mode 755, others 644.
    pub(super) fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let content = fs::read(from).with_context(|| from.display().to_string())?;
        self.write(to, &content, mode)
    }

    /// Writes a file.
    pub(super) fn write(&self, to: &str, content: &[u8], mode: u32) -> Result<()> {
        let place = self.place(to)?;
        fs::write(&place, content).with_context(|| place.display().to_string())?;
        fs::set_permissions(&place, Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Writes a compressed file.
    pub(super) fn compress(&self, to: &str, content: &[u8]) -> Result<()> {
        self.write(to, &gzip(content)?, 0o644)
    }

    pub(super) fn link(&self, name: &str, target: &str) -> Result<()> {
        let place = self.place(name)?;
        symlink(target, &place).with_context(|| place.display().to_string())
    }

    /// The paths of all files and links, sorted, without what is only for `dpkg-deb`.
    pub(super) fn files(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let path = entry.path();
                let inside = path.strip_prefix(&self.0)?;
                if entry.file_type()?.is_dir() {
                    folders.push(path.clone());
                } else if !inside.starts_with(CONTROL) {
                    files.push(inside.to_str().context("a name in UTF-8")?.to_owned());
                }
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Compresses without name and time.
fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip")
        .args(["-9", "--no-name", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("gzip")?;
    let mut stdin = gzip.stdin.take().context("gzip")?;
    let output = std::thread::scope(|scope| {
        // Otherwise both would wait once the pipes are full.
        let writer = scope.spawn(move || stdin.write_all(content));
        let output = gzip.wait_with_output()?;
        writer.join().ok().context("gzip")??;
        anyhow::Ok(output)
    })?;
    ensure!(output.status.success(), "gzip: {}", output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_names() {
        let work = tempfile::tempdir().unwrap();
        let tree = Tree::new(work.path().join("p")).unwrap();
        tree.write("usr/bin/x", b"x", 0o755).unwrap();
        tree.write("DEBIAN/control", b"x", 0o644).unwrap();
        tree.link("usr/lib/y", "x").unwrap();
        assert_eq!(tree.files().unwrap(), ["usr/bin/x", "usr/lib/y"]);
        for (path, expected) in [
            ("usr", 0o755),
            ("usr/bin/x", 0o755),
            ("DEBIAN/control", 0o644),
        ] {
            let mode = fs::metadata(tree.path().join(path))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o7777, expected, "{path}");
        }
    }

    #[test]
    fn large_content_is_compressed_the_same_way_twice() {
        let content: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let one = gzip(&content).unwrap();
        assert!(one.len() < content.len());
        // No time stamp (RFC 1952, MTIME).
        assert_eq!(one[4..8], [0; 4]);
        assert_eq!(one, gzip(&content).unwrap());
    }
}
