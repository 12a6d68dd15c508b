//! Reads `/proc/PID` of other processes without disturbing them, in bounded time and memory.
//!
//! A process can block its readers for as long as it likes, and make any of its files as long
//! as it likes. So all reads go through `look`, which has a deadline, and read files
//! piece by piece.
//!
//! `maps`, `status`, `fd` and `fdinfo` are harmless to read; smaps, smaps_rollup and numa_maps are not:
//! reading them removes the 1 GiB leaves of the process.

mod fd;
mod lines;
mod look;
mod maps;
mod process;
mod progress;
mod view;
mod walks;

pub(crate) use fd::{FileId, Identity};
pub(crate) use lines::field;
pub(crate) use look::look;
pub use maps::Advice;
pub(crate) use process::Process;
pub(crate) use view::check;
pub use view::{hidden_processes, missing_privilege, pids};

use std::io;

/// `ESRCH`: the error of reading a process's files once it has ended.
const NO_SUCH_PROCESS: i32 = 3;

/// Whether an error means that the process has ended.
pub(crate) fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(NO_SUCH_PROCESS)
}

/// Whether an error means that the process did not answer in time.
pub(crate) fn has_timed_out(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_there_has_ended() {
        let error = look(u32::MAX, |process| process.text("maps"));
        assert!(has_ended(&error.unwrap_err()));
        assert!(has_ended(&io::Error::from_raw_os_error(NO_SUCH_PROCESS)));
        assert!(!has_ended(&io::Error::from_raw_os_error(13)));
    }
}
