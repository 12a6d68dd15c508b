//! Counts of tests, and what failed ones have printed, from the output of test programs.

use anyhow::{Context, Result, ensure};

/// How much of a failed test's output is shown again at the end.
const MOST_LINES: usize = 60;
const MOST_CHARACTERS: usize = 4_000;

/// Tests, summed up over all programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    passed: u64,
    pub(super) failed: u64,
    skipped: u64,
    /// The names of failed tests.
    failures: Vec<String>,
    /// What they have printed.
    output: Vec<String>,
    part: Part,
}

/// A part of a test program's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// Results, the output of tests that passed, or names.
    #[default]
    Other,
    /// The output of tests that failed: a headline for each, and this many lines of it.
    Failures { lines: usize },
}

impl Counts {
    /// Adds a line of output; the last line of a test program has its counts.
    pub(super) fn add(&mut self, line: &str) {
        let test = line.strip_prefix("test ");
        if let Some(name) = test.and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.trim_end().to_owned());
        }
        self.keep(line);
        if let Ok(counts) = Counts::of(line) {
            self.passed += counts.passed;
            self.failed += counts.failed;
            self.skipped += counts.skipped;
            self.part = Part::Other;
        }
    }

    /// Keeps the line if a failed test has printed it. Programs print `failures:` twice: before the output and before the names.
    fn keep(&mut self, line: &str) {
        let headline = line.starts_with("---- ") && line.ends_with(" ----");
        self.part = match self.part {
            Part::Other if line == "failures:" => Part::Failures { lines: 0 },
            Part::Failures { .. } if line == "failures:" => Part::Other,
            Part::Failures { .. } if headline => Part::Failures { lines: 1 },
            Part::Failures { lines: lines @ 1.. } => Part::Failures { lines: lines + 1 },
            part => part,
        };
        if matches!(
            self.part,
            Part::Failures {
                lines: 1..=MOST_LINES
            }
        ) {
            self.output
                .push(line.chars().take(MOST_CHARACTERS).collect());
        }
    }

    /// Parses `test result: ok. 4 passed; 1 failed; 2 ignored; …`.
    fn of(line: &str) -> Result<Counts> {
        let (_, parts) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
            .context("not a result")?;
        let mut counts = Counts::default();
        let mut known = 0;
        for part in parts.split(';') {
            let (number, what) = part.trim().split_once(' ').context("no count")?;
            let place = match what {
                "passed" => &mut counts.passed,
                "failed" => &mut counts.failed,
                "ignored" => &mut counts.skipped,
                _ => continue,
            };
            *place = number.parse()?;
            known += 1;
        }
        ensure!(known == 3, "not all counts");
        Ok(counts)
    }

    /// What failed tests have printed, at most [`MOST_LINES`] of each.
    pub(super) fn output(&self) -> String {
        self.output.iter().map(|line| format!("{line}\n")).collect()
    }

    /// A line for each failed test.
    pub(super) fn failures(&self) -> String {
        let failures = self.failures.iter();
        failures.map(|test| format!("failed: {test}\n")).collect()
    }

    pub(super) fn line(&self) -> String {
        let Counts {
            passed,
            failed,
            skipped,
            ..
        } = self;
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_all_programs_are_added() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test fine                ... ok",
            "test device::odd         ... FAILED",
            "test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.23s",
            "test result: FAILED. 4 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 23.57s",
            "test result: odd ... ok",
            "    test result: ok. 9 passed; 9 failed; 9 ignored; 0 measured",
        ] {
            counts.add(line);
        }
        assert_eq!(counts.line(), "44 passed, 1 failed, 2 skipped");
        assert_eq!(counts.failures(), "failed: device::odd\n");
    }

    #[test]
    fn a_result_with_a_count_missing_is_none() {
        assert!(Counts::of("test result: ok. 4 passed; 0 failed; 0 measured").is_err());
    }

    /// The lines are those of `cargo test -- --show-output`.
    #[test]
    fn the_output_of_failed_tests_is_kept() {
        let mut counts = Counts::default();
        let program = "running 3 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... FAILED\n\n\
            successes:\n\n---- a stdout ----\nfine\n\n\nsuccesses:\n    a\n\n\
            failures:\n\n---- b stdout ----\nb panicked\nbecause\n\n---- c stdout ----\nc panicked\n\n\n\
            failures:\n    b\n    c\n\n\
            test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        for _ in 0..2 {
            program.lines().for_each(|line| counts.add(line));
        }
        let once =
            "---- b stdout ----\nb panicked\nbecause\n\n---- c stdout ----\nc panicked\n\n\n";
        assert_eq!(counts.output(), once.repeat(2));
        assert_eq!(counts.line(), "2 passed, 4 failed, 0 skipped");
    }

    #[test]
    fn long_output_is_cut() {
        let mut counts = Counts::default();
        counts.add("failures:");
        counts.add("---- a stdout ----");
        (0..2 * MOST_LINES).for_each(|_| counts.add(&"ä".repeat(2 * MOST_CHARACTERS)));
        let kept = counts.output();
        assert_eq!(kept.lines().count(), MOST_LINES);
        assert_eq!(
            kept.lines().next_back().unwrap().chars().count(),
            MOST_CHARACTERS
        );
    }
}
