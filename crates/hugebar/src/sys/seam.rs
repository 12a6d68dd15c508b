//! All system calls of the crate go through here, so that tests can count them and make any one of
//! them fail. Compiles to nothing without the cfg `hugebar_seam`, which only this
//! workspace sets (`.cargo/config.toml`).

#[cfg(hugebar_seam)]
pub use script::{Fault, fail, record};

/// Makes a system call, unless a test's script makes it fail.
#[cfg(not(hugebar_seam))]
#[inline(always)]
pub(crate) fn call<T>(
    _name: &'static str,
    call: impl FnOnce() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    call()
}

/// Makes a system call whose failure changes something; `harm` does what the kernel would have done.
#[cfg(not(hugebar_seam))]
#[inline(always)]
pub(crate) fn call_or_harm<T>(
    _name: &'static str,
    _harm: impl FnOnce(),
    call: impl FnOnce() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    call()
}

#[cfg(hugebar_seam)]
pub(crate) use script::{call, call_or_harm};

#[cfg(hugebar_seam)]
mod script {
    use std::cell::RefCell;

    use rustix::io::{Errno, Result};

    /// Which call of a script fails, and how.
    pub struct Fault {
        /// How many calls succeed before it.
        pub after: usize,
        /// The error.
        pub errno: i32,
        /// Whether the kernel does harm before it refuses: a failed `MAP_FIXED` can leave the old
        /// content, or a gap.
        pub harm: bool,
        /// Runs right after the failure, like another thread at that moment.
        pub meanwhile: Option<Box<dyn FnOnce()>>,
    }

    /// How many calls are recorded without a page fault of the record's own memory: a census counts the thread's faults.
    const ROOM: usize = 1 << 16;

    #[derive(Default)]
    struct Script {
        calls: Vec<&'static str>,
        fault: Option<Fault>,
    }

    thread_local! {
        // Each thread has its own, so that tests can run side by side.
        static SCRIPT: RefCell<Option<Script>> = const { RefCell::new(None) };
    }

    /// Runs `body` and returns the names of the system calls that it made on this thread.
    pub fn record<T>(body: impl FnOnce() -> T) -> (T, Vec<&'static str>) {
        run(Script::default(), body)
    }

    /// Like [`record`], but one system call of this thread fails.
    pub fn fail<T>(fault: Fault, body: impl FnOnce() -> T) -> (T, Vec<&'static str>) {
        let fault = Some(fault);
        run(
            Script {
                fault,
                ..Script::default()
            },
            body,
        )
    }

    fn run<T>(mut script: Script, body: impl FnOnce() -> T) -> (T, Vec<&'static str>) {
        // Written, so that its pages are there.
        script.calls = vec!["-"; ROOM];
        script.calls.clear();
        SCRIPT.set(Some(script));
        let result = body();
        let script = SCRIPT.take().unwrap_or_default();
        (result, script.calls)
    }

    pub(crate) fn call<T>(name: &'static str, call: impl FnOnce() -> Result<T>) -> Result<T> {
        call_or_harm(name, || (), call)
    }

    pub(crate) fn call_or_harm<T>(
        name: &'static str,
        harm: impl FnOnce(),
        call: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        match due(name) {
            None => call(),
            Some(fault) => {
                if fault.harm {
                    harm();
                }
                if let Some(meanwhile) = fault.meanwhile {
                    meanwhile();
                }
                Err(Errno::from_raw_os_error(fault.errno))
            }
        }
    }

    /// Records the call; returns the fault if it is meant for this call.
    fn due(name: &'static str) -> Option<Fault> {
        // Not in place, by `with_borrow_mut`: from that, Rust 1.85 makes optimised arm64 code that returns garbage for `None`.
        let mut script = SCRIPT.take()?;
        let number = script.calls.len();
        script.calls.push(name);
        let fault = script.fault.take_if(|fault| fault.after == number);
        SCRIPT.set(Some(script));
        fault
    }
}
