//! Makes each system call of some work fail in turn, and checks that nothing is left behind.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;

use anyhow::{Context, Error, Result, ensure};
use hugebar::seam::{Fault, fail, record};

use crate::state::State;

/// Which calls fail, and with which errors.
pub(crate) struct Faults<'a> {
    errnos: &'a [i32],
    spared: &'a [&'a str],
}

/// A call that was made to fail.
pub(crate) struct Failed<'a> {
    /// All calls of the work, in their order.
    pub(crate) calls: &'a [&'static str],
    /// Which of them failed.
    pub(crate) index: usize,
    pub(crate) name: &'static str,
    pub(crate) errno: i32,
    /// How many calls were made this time.
    pub(crate) made: usize,
}

/// How often the work failed.
pub(crate) struct Tally {
    /// How many calls the work makes.
    pub(crate) calls: usize,
    /// How often it reported an error, over all errors of all calls.
    pub(crate) failed: usize,
    /// How often it did not.
    pub(crate) survived: usize,
}

impl<'a> Faults<'a> {
    /// Each call fails with each of these errors.
    pub(crate) fn of(errnos: &'a [i32]) -> Self {
        let spared = &[];
        Self { errnos, spared }
    }

    /// Except for calls of these names.
    pub(crate) fn sparing(mut self, names: &'a [&'a str]) -> Self {
        self.spared = names;
        self
    }

    /// Runs the work once without a failure, and then once for each call and error. Its result is checked, dropped, and
    /// then everything has to be as it was before: files, mappings, locked memory and enabled interrupts.
    pub(crate) fn each<T, E: Display + Into<Error>>(
        self,
        mut work: impl FnMut() -> Result<T, E>,
        mut check: impl FnMut(&Failed<'_>, &Result<T, E>) -> Result<()>,
    ) -> Result<Tally> {
        let before = (State::observe()?, interrupts()?);
        let (result, calls) = record(&mut work);
        drop(result.map_err(Into::into)?);
        unchanged(&before).context("after success")?;
        let mut tally = Tally {
            calls: calls.len(),
            failed: 0,
            survived: 0,
        };
        for (index, &name) in calls.iter().enumerate() {
            if self.spared.contains(&name) {
                continue;
            }
            for &errno in self.errnos {
                let (result, seen) = fail(nth(index, errno), &mut work);
                ensure!(seen.get(index) == Some(&name), "call {index} was {name}");
                match &result {
                    Ok(_) => tally.survived += 1,
                    Err(error) => {
                        tally.failed += 1;
                        let line = error.to_string();
                        ensure!(!line.contains('\n') && !line.is_empty(), "one line: {line}");
                    }
                }
                let failed = Failed {
                    calls: &calls,
                    index,
                    name,
                    errno,
                    made: seen.len(),
                };
                let place = || format!("after {name}, call {index} of {calls:?}, errno {errno}");
                check(&failed, &result).with_context(place)?;
                drop(result);
                unchanged(&before).with_context(place)?;
            }
        }
        println!(
            "{} calls: {} failures reported, {} survived",
            tally.calls, tally.failed, tally.survived
        );
        Ok(tally)
    }
}

/// The failure of one call, counted from 0.
pub(crate) fn nth(after: usize, errno: i32) -> Fault {
    Fault {
        after,
        errno,
        harm: true,
        meanwhile: None,
    }
}

fn unchanged((state, enabled): &(State, BTreeSet<String>)) -> Result<()> {
    state.unchanged()?;
    let now = interrupts()?;
    ensure!(
        now == *enabled,
        "interrupts before: {enabled:?}, now: {now:?}"
    );
    Ok(())
}

/// The interrupts that VFIO has requested from the kernel, of all devices.
fn interrupts() -> Result<BTreeSet<String>> {
    let text = fs::read_to_string("/proc/interrupts")?;
    let words = text.split_ascii_whitespace();
    let own = words.filter(|word| word.starts_with("vfio-"));
    Ok(own.map(str::to_owned).collect())
}
