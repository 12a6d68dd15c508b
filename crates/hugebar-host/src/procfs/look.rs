//! Looks at a process with a deadline.
//!
//! A read of `/proc/PID/maps` waits for the lock of the address space, which the process can hold for as long
//! as it likes, and such a read cannot be interrupted. So each look runs in its own thread, which is
//! abandoned if it takes too long. While that thread exists, its process is not looked at again.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::process::Process;
use super::progress::Progress;

/// How long a look may make no progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(3);

/// The same after many processes did not answer, so that an attacker gains little by creating thousands of them.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(20);

/// How long a look that makes progress may take.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(20);

/// Stack size of the thread: a look reads text into small buffers.
const STACK: usize = 256 << 10;

/// The processes for which an abandoned look is still waiting. It ends with the process at the latest, so before
/// another process can have the PID.
static ABANDONED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn abandoned() -> MutexGuard<'static, BTreeSet<u32>> {
    ABANDONED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at a process.
///
/// # Errors
///
/// The error of the look; [`io::ErrorKind::TimedOut`] if it takes too long, or an earlier one is still waiting.
pub(crate) fn look<T: Send + 'static>(
    pid: u32,
    look: impl FnOnce(&Process) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    within(STALL_TIMEOUT, TOTAL_TIMEOUT, pid, move |progress| {
        look(&Process::open(pid, progress)?)
    })
}

/// Runs a look. Each abandoned look shortens `stall`.
fn within<T: Send + 'static>(
    stall: Duration,
    most: Duration,
    pid: u32,
    look: impl FnOnce(Arc<Progress>) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let stall = {
        let abandoned = abandoned();
        if abandoned.contains(&pid) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let shortened = |stall: Duration, _| stall.mul_f64(0.75).max(SHORTEST_TIMEOUT);
        (0..abandoned.len().min(64)).fold(stall, shortened)
    };
    let progress = Arc::new(Progress::default());
    let (answer, answers) = mpsc::channel();
    let own = Arc::clone(&progress);
    let thread = thread::Builder::new().stack_size(STACK);
    thread.spawn(move || {
        // Runs even if the look panics.
        let _remove = RemoveOnDrop(pid);
        // Fails if the look was abandoned.
        let _ = answer.send(look(own));
    })?;
    let until = Instant::now() + most;
    let mut steps = 0;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match answers.recv_timeout(stall.min(left)) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the look has panicked"));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = progress.steps();
        if now == steps || left.is_zero() {
            // The thread removes its process from the list after its answer: none is lost, and none stays.
            let mut abandoned = abandoned();
            if let Ok(answer) = answers.try_recv() {
                return answer;
            }
            progress.abandon();
            abandoned.insert(pid);
            return Err(io::ErrorKind::TimedOut.into());
        }
        steps = now;
    }
}

struct RemoveOnDrop(u32);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        abandoned().remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(600);

    /// PIDs that no process has.
    const SILENT: u32 = u32::MAX - 1;
    const SLOW: u32 = u32::MAX - 2;

    fn silent(error: io::Error) -> bool {
        error.kind() == io::ErrorKind::TimedOut
    }

    #[test]
    fn what_does_not_answer_is_abandoned_once() {
        let (end, ended) = mpsc::channel::<()>();
        let wait = move |_| {
            let _ = ended.recv();
            Ok(())
        };
        let began = Instant::now();
        assert!(silent(within(SHORT, LONG, SILENT, wait).unwrap_err()));
        assert!(began.elapsed() < LONG);
        // Not even tried.
        let again = within(LONG, LONG, SILENT, |_| -> io::Result<()> { panic!() });
        assert!(silent(again.unwrap_err()));
        drop(end);
        while abandoned().contains(&SILENT) {
            thread::yield_now();
        }
        assert_eq!(within(LONG, LONG, SILENT, |_| Ok(7)).unwrap(), 7);
    }

    #[test]
    fn what_gets_on_has_longer_but_not_for_ever() {
        let slow = |progress: Arc<Progress>| -> io::Result<()> {
            loop {
                progress.step()?;
                thread::sleep(Duration::from_millis(1));
            }
        };
        let (stall, most) = (SHORT * 10, SHORT * 20);
        let began = Instant::now();
        assert!(silent(within(stall, most, SLOW, slow).unwrap_err()));
        assert!(began.elapsed() >= most);
        // It notices that it was abandoned.
        while abandoned().contains(&SLOW) {
            thread::yield_now();
        }
    }
}
