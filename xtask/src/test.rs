//! `cargo xtask test`: all checks and tests, with one line at the end that counts them.

mod counts;

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use hugebar_lab::cache::Cache;
use hugebar_lab::{Arch, Cross, debian, install, kernel};

use crate::shared::Consent;
use counts::Counts;

/// The kernels that tests boot. They are fetched or built before the tests start.
const KERNELS: [(Arch, &str); 9] = [
    (Arch::X86_64, "6.1"),
    (Arch::X86_64, "6.12"),
    (Arch::X86_64, "6.18"),
    (Arch::X86_64, "newest"),
    (Arch::X86_64, "lab"),
    (Arch::Arm64, "newest"),
    (Arch::Arm64, "newest-16k"),
    (Arch::Arm64, "6.18"),
    (Arch::Arm64, "lab-64k"),
];

/// Run all checks and tests, including those in virtual machines.
///
/// The last line counts the tests of all programs: N passed, N failed, N skipped.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only the tests whose names contain this, and no other checks
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    #[command(flatten)]
    consent: Consent,
}

/// One step: a name, Cargo's arguments, and a variable of its environment.
struct Step {
    name: &'static str,
    cargo: &'static str,
    env: Option<(&'static str, &'static str)>,
}

const CHECKS: [Step; 7] = [
    Step {
        name: "formatting",
        cargo: "fmt --all --check",
        env: None,
    },
    Step {
        name: "clippy",
        cargo: "clippy --workspace --all-targets --all-features --quiet -- -D warnings",
        env: None,
    },
    Step {
        name: "documentation",
        cargo: "doc --no-deps --workspace --all-features --quiet",
        env: Some(("RUSTDOCFLAGS", "-D warnings")),
    },
    Step {
        name: "documentation of private items",
        cargo: "doc --no-deps --workspace --all-features --document-private-items --quiet",
        env: Some(("RUSTDOCFLAGS", "-D warnings")),
    },
    Step {
        name: "what a register costs",
        cargo: "bench --package hugebar --bench register --quiet",
        env: None,
    },
    Step {
        name: "what a mapping costs",
        cargo: "bench --package hugebar --bench mapping --quiet",
        env: None,
    },
    Step {
        name: "what the preloaded library costs",
        cargo: "bench --package hugebar-preload --bench anonymous --quiet",
        env: None,
    },
];

const TESTS: [Step; 2] = [
    Step {
        name: "tests",
        // Show the output of passed tests too, such as the number of cells in the matrix.
        cargo: "test --workspace --all-features --no-fail-fast --lib --bins --examples --tests -- --show-output",
        // Failing cases are printed. proptest cannot save them for tests outside a library, and
        // would warn each time.
        env: Some(("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")),
    },
    Step {
        name: "documentation tests",
        cargo: "test --workspace --all-features --no-fail-fast --doc --",
        env: None,
    },
];

/// Runs all steps, even after a failure.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut failed = Vec::new();
    let mut counts = Counts::default();
    let before = hugebar_lab::boots()?;

    prepare(args.consent.yes)?;
    if args.filter.is_none() {
        for step in &CHECKS {
            if !step.run(&mut |_| {}, None)? {
                failed.push(step.name);
            }
        }
    }
    for step in &TESTS {
        let failures = counts.failed;
        let passed = step.run(&mut |line| counts.add(line), args.filter.as_deref())?;
        if !passed {
            failed.push(step.name);
            // A program that does not build, or is killed, reports no failures itself.
            counts.failed = counts.failed.max(failures + 1);
        }
    }
    print!("{}", counts.output());
    println!(
        "{} virtual machines were started",
        hugebar_lab::boots()? - before
    );
    print!("{}", counts.failures());
    if !failed.is_empty() {
        println!("FAILED: {}", failed.join(", "));
    }
    println!("{}", counts.line());
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Gets QEMU, compilers, the kernels and the guest programs, so that no test has to wait for them.
fn prepare(yes: bool) -> Result<()> {
    let started = begin("QEMU, compilers and kernels");
    install::ensure_c(yes)?;
    for arch in [Arch::X86_64, Arch::Arm64] {
        install::ensure_machine(arch, yes)?;
    }
    let cache = Cache::open()?;
    for (arch, word) in KERNELS {
        kernel::prepare(&cache, word, arch, yes)?;
        let kernel = kernel::resolve(&cache, word, arch, None)?;
        println!("{arch} {word}: Linux {}", kernel.release);
    }
    for program in [debian::QEMU_7_2, debian::QEMU_10_0] {
        println!(
            "QEMU of {}: {}",
            program.suite,
            program.get(&cache)?.version
        );
    }
    Cross::get(&cache)?;
    end(started, true);
    Ok(())
}

fn begin(name: &str) -> Instant {
    println!("== {name}");
    Instant::now()
}

fn end(started: Instant, passed: bool) {
    let word = if passed { "ok" } else { "FAILED" };
    println!("== {word}, {:.1} s\n", started.elapsed().as_secs_f64());
}

impl Step {
    /// Runs the step, shows its output, and returns whether it passed.
    fn run(&self, line: &mut dyn FnMut(&str), filter: Option<&str>) -> Result<bool> {
        let started = begin(self.name);
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command.args(self.cargo.split(' ')).envs(self.env);
        command.args(filter);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run cargo")?;
        let stdout = child.stdout.take().context("cargo's output is a pipe")?;
        for text in BufReader::new(stdout).split(b'\n') {
            let text = text?;
            let text = String::from_utf8_lossy(&text);
            println!("{text}");
            line(&text);
        }
        let passed = child.wait()?.success();
        end(started, passed);
        Ok(passed)
    }
}
