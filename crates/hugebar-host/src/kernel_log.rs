//! The kernel's log, as far as this process may read it.

use std::fs::File;
use std::io::{self, Read};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// Where each read returns one record.
const LOG: &str = "/dev/kmsg";

/// A record is no longer than this (`PRINTK_MESSAGE_MAX` and its header).
const LONGEST: usize = 16 << 10;

/// How many records are read: new ones may arrive for ever.
const MOST: usize = 1 << 20;

/// `EPIPE`: records were overwritten before they were read.
const OVERWRITTEN: i32 = 32;

/// The messages that are wanted, each with its time in seconds since boot: `[    1.234567] vfio-pci …`.
///
/// # Errors
///
/// The error of opening or reading `/dev/kmsg`: it takes privilege where `kernel.dmesg_restrict` is set.
pub fn lines(wanted: fn(&str) -> bool) -> io::Result<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut log = File::from(openat(CWD, LOG, flags, Mode::empty())?);
    let (mut record, mut lines) = (vec![0; LONGEST], Vec::new());
    for _ in 0..MOST {
        let length = match log.read(&mut record) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error() == Some(OVERWRITTEN) => continue,
            read => read?,
        };
        let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
        lines.extend(line(&text).filter(|line| wanted(line)));
    }
    Ok(lines)
}

/// The message of a record such as `6,339,5140900,-;NET: Registered …`.
fn line(record: &str) -> Option<String> {
    let (header, rest) = record.split_once(';')?;
    let message = rest.lines().next()?;
    let micros: u64 = header.split(',').nth(2)?.parse().ok()?;
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    Some(format!("[{seconds:5}.{micros:06}] {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line() {
        let record = "6,339,5140900,-;vfio-pci 0000:01:00.0: enabling\n SUBSYSTEM=pci\n";
        let expected = "[    5.140900] vfio-pci 0000:01:00.0: enabling";
        assert_eq!(line(record).as_deref(), Some(expected));
        assert_eq!(line("nothing"), None);
    }
}
