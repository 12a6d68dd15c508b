//! Where the library reports the mappings that it sees.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, absolute};

/// The library's variable that says where to report.
pub const REPORT_VARIABLE: &str = "HUGEBAR_PRELOAD_REPORT";

/// The value for a report to a file, which is created if it does not exist. The library opens it for
/// each line.
///
/// # Errors
/// If the file cannot be opened for writing.
pub fn report_to_file(path: &Path) -> io::Result<OsString> {
    File::options().append(true).create(true).open(path)?;
    // The program may change its working directory.
    Ok(absolute(path)?.into_os_string())
}

/// The value for a report to a descriptor that this process has inherited, as the program will. If the program uses the
/// number for another file later, the library writes nothing there.
///
/// # Errors
/// If the descriptor is not open.
pub fn report_to_descriptor(number: u32) -> io::Result<OsString> {
    let file = fs::metadata(format!("/proc/self/fd/{number}"))?;
    Ok(format!("fd:{number}:{}:{}", file.dev(), file.ino()).into())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_file_is_named_from_the_root_and_a_descriptor_by_what_it_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let value = report_to_file(file.path()).unwrap();
        assert_eq!(value, file.path().as_os_str());
        assert!(report_to_file(Path::new("/no/such/file")).is_err());

        let (data, number) = (file.as_file().metadata().unwrap(), file.as_raw_fd());
        let value = report_to_descriptor(number.unsigned_abs()).unwrap();
        let expected = format!("fd:{number}:{}:{}", data.dev(), data.ino());
        assert_eq!(value.to_str(), Some(&*expected));
        assert!(report_to_descriptor(u32::MAX).is_err());
    }
}
