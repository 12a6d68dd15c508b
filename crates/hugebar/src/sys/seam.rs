//! The one place that the system calls of the crate pass, so that tests can count them and make any one of
//! them fail. It is nothing at all without the cfg `hugebar_seam`, which this
//! workspace sets for itself (`.cargo/config.toml`).

#[cfg(hugebar_seam)]
pub use script::{Fault, fail, record};

/// Does a system call, unless a test's script has it fail.
#[cfg(not(hugebar_seam))]
#[inline(always)]
pub(crate) fn call<T>(
    _name: &'static str,
    call: impl FnOnce() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    call()
}

/// Does a system call whose failure changes something; `harm` does what the kernel would have done.
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
        /// How many calls go well before it.
        pub after: usize,
        /// What it fails with.
        pub errno: i32,
        /// Whether the kernel does its worst before it refuses: a failed `MAP_FIXED` can leave what
        /// was there, or a gap.
        pub harm: bool,
        /// Done right after the failure: what another thread might do at that moment.
        pub meanwhile: Option<Box<dyn FnOnce()>>,
    }

    #[derive(Default)]
    struct Script {
        calls: Vec<&'static str>,
        fault: Option<Fault>,
    }

    thread_local! {
        // Each thread has its own, so that tests can run side by side.
        static SCRIPT: RefCell<Option<Script>> = const { RefCell::new(None) };
    }

    /// Runs `body` and tells which system calls it made on this thread, by name.
    pub fn record<T>(body: impl FnOnce() -> T) -> (T, Vec<&'static str>) {
        run(Script::default(), body)
    }

    /// Runs `body` with one system call of this thread failing, as [`record`] does without.
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

    fn run<T>(script: Script, body: impl FnOnce() -> T) -> (T, Vec<&'static str>) {
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

    /// Notes the call; the fault, if it is this call's.
    fn due(name: &'static str) -> Option<Fault> {
        SCRIPT.with_borrow_mut(|script| {
            let script = script.as_mut()?;
            let number = script.calls.len();
            script.calls.push(name);
            script.fault.take_if(|fault| fault.after == number)
        })
    }
}
