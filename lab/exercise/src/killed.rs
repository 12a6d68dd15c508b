//! Kills a program at each of its system calls that change something, and has another program put
//! everything back.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use hugebar::pci::{Address, Function};

/// What a device has: its driver, its `driver_override`, and whether something is remembered about it.
#[derive(Debug, PartialEq, Eq)]
struct Has {
    driver: Option<String>,
    over: String,
    record: bool,
}

impl Has {
    fn of(device: Address) -> Result<Self> {
        let folder = format!("/sys/bus/pci/devices/{device}");
        Ok(Self {
            driver: Function::at(device)?.driver()?,
            over: fs::read_to_string(format!("{folder}/driver_override"))?,
            record: Path::new(&format!("/run/hugebar/{device}")).exists(),
        })
    }
}

pub(crate) fn run(device: Address) -> Result<()> {
    let device_name = device.to_string();
    let before = Has::of(device)?;
    ensure!(!before.record && before.driver.is_some(), "{before:?}");
    let mut seen = Vec::new();
    for at in 0.. {
        // The second goes on from where the first was killed.
        for _ in 0..2 {
            let call = killed(&["hugebar", "bind", &device_name], at)?;
            let left = Has::of(device)?;
            // Whatever is changed is remembered.
            let is_changed = left.driver != before.driver || left.over != before.over;
            ensure!(
                !is_changed || left.record,
                "killed at {at} ({call:?}): {left:?}"
            );
            let is_bound = left.driver.as_deref() == Some("vfio-pci");
            ensure!(call.is_some() || is_bound, "not killed: {left:?}");
            let state = (left.driver.is_some(), left.over != before.over, left.record);
            seen.push((call.is_some(), state));
        }
        if Has::of(device)?.record {
            restore(&device_name)?;
        }
        let after = Has::of(device)?;
        ensure!(after == before, "killed at {at}: {after:?}");
        if seen.last().is_some_and(|(killed, _)| !killed) && !seen[seen.len() - 2].0 {
            break;
        }
    }
    // The way back is killed as well.
    for at in 0.. {
        ensure!(
            Command::new("hugebar")
                .args(["bind", &device_name])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?
                .success()
        );
        let call = killed(&["hugebar", "restore", &device_name], at)?;
        let left = Has::of(device)?;
        if left.record {
            restore(&device_name)?;
        }
        ensure!(
            Has::of(device)? == before,
            "restore killed at {at} ({call:?}): {left:?}"
        );
        if call.is_none() {
            break;
        }
    }
    for state in [
        (true, false, false),
        (true, false, true),
        (true, true, true),
        (false, true, true),
    ] {
        ensure!(
            seen.contains(&(true, state)),
            "never killed in {state:?}: {seen:?}"
        );
    }
    println!("killed {} times", seen.iter().filter(|own| own.0).count());
    Ok(())
}

fn restore(device: &str) -> Result<()> {
    let output = Command::new("hugebar").args(["restore", device]).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// Runs a program, and kills it before its system call of this number, of those that count; none if it has fewer.
#[allow(unsafe_code, reason = "a call between fork and exec")]
fn killed(words: &[&str], at: u32) -> Result<Option<&'static str>> {
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: one system call, which allocates nothing.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
    let mut child = command.spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    ensure!(matches!(
        waitpid(pid, None)?,
        WaitStatus::Stopped(_, Signal::SIGTRAP)
    ));
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD)?;
    let (mut calls, mut is_entry) = (0, false);
    let mut signal = None;
    loop {
        ptrace::syscall(pid, signal.take())?;
        match waitpid(pid, None)? {
            WaitStatus::PtraceSyscall(_) => is_entry = !is_entry,
            WaitStatus::Stopped(_, own) => {
                signal = Some(own);
                continue;
            }
            WaitStatus::Exited(_, 0) => return Ok(None),
            other => bail!("{words:?}: {other:?}"),
        }
        if !is_entry {
            continue;
        }
        let number = i64::try_from(ptrace::getregs(pid)?.orig_rax)?;
        let Some(name) = name(number) else { continue };
        if calls == at {
            child.kill().context("kill")?;
            child.wait()?;
            return Ok(Some(name));
        }
        calls += 1;
    }
}

/// The calls that change files, or start the processes that write to sysfs.
fn name(number: i64) -> Option<&'static str> {
    let calls = [
        (libc::SYS_mkdir, "mkdir"),
        (libc::SYS_renameat2, "renameat2"),
        (libc::SYS_unlink, "unlink"),
        (libc::SYS_clone, "clone"),
    ];
    let own = calls.into_iter().find(|(own, _)| *own == number);
    own.map(|(_, name)| name)
}
