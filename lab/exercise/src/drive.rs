//! An NVMe drive by the kernel's own driver.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Its only drive.
const NODE: &str = "/dev/nvme0n1";

/// The size of its blocks.
const BLOCK: u64 = 512;

/// Writes a file to the drive, from a block on.
pub(crate) fn write(first: u64, file: &Path) -> Result<()> {
    let drive = open()?;
    drive.write_all_at(&fs::read(file)?, place(first)?)?;
    Ok(drive.sync_all()?)
}

/// Checks that the drive has what a file has, from a block on.
pub(crate) fn compare(first: u64, file: &Path) -> Result<()> {
    let expected = fs::read(file)?;
    ensure!(!expected.is_empty(), "an empty file");
    let mut bytes = vec![0; expected.len()];
    open()?.read_exact_at(&mut bytes, place(first)?)?;
    let differs = bytes
        .iter()
        .zip(&expected)
        .position(|(own, due)| own != due);
    ensure!(differs.is_none(), "byte {differs:?} differs");
    Ok(())
}

fn place(block: u64) -> Result<u64> {
    block.checked_mul(BLOCK).context("beyond 64 bits")
}

/// The driver finds the drive only a while after it was bound.
fn open() -> Result<File> {
    let begin = Instant::now();
    loop {
        match File::options().read(true).write(true).open(NODE) {
            Ok(drive) => return Ok(drive),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).context(NODE);
            }
            Err(_) if begin.elapsed() > Duration::from_secs(60) => bail!("{NODE} does not appear"),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}
