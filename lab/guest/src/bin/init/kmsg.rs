//! The kernel's log, `/dev/kmsg`.

use std::fs::File;
use std::io::{ErrorKind, Read};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};

/// Reads the whole log, one line per record: each read of `/dev/kmsg` returns a record.
pub(crate) fn read() -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut log = File::from(rustix::fs::open("/dev/kmsg", flags, Mode::empty())?);
    let mut records = Vec::new();
    let mut record = vec![0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(length) => records.extend_from_slice(&record[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(records),
            // EPIPE: records were overwritten before they were read; the next read continues after them.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error).context("/dev/kmsg"),
        }
    }
}

/// The text of a record without its priority, number and time: `6,339,5140900,-;TEXT`.
pub(crate) fn text(record: &str) -> &str {
    record.split_once(';').map_or(record, |(_, text)| text)
}
