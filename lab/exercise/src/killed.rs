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
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

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
        let call = killed(&["hugebar", "bind", &device_name], at)?;
        let left = Has::of(device)?;
        // Whatever is changed is remembered.
        let is_changed = left.driver != before.driver || left.over != before.over;
        ensure!(
            !is_changed || left.record,
            "killed at {at} ({call:?}): {left:?}"
        );
        if left.record {
            run_to_its_end("restore", &device_name)?;
        }
        let after = Has::of(device)?;
        ensure!(after == before, "killed at {at} ({call:?}): {after:?}");
        if call.is_none() {
            break;
        }
        seen.push((left.driver.is_some(), left.over != before.over, left.record));
    }
    // The way back is killed as well, and then bind goes on from there.
    for at in 0.. {
        run_to_its_end("bind", &device_name)?;
        let bound = Has::of(device)?;
        let is_bound = bound.driver.as_deref() == Some("vfio-pci") && bound.record;
        ensure!(is_bound, "restore killed before {at}: {bound:?}");
        if killed(&["hugebar", "restore", &device_name], at)?.is_none() {
            break;
        }
    }
    let after = Has::of(device)?;
    ensure!(after == before, "{after:?}");
    for state in [
        (true, false, false),
        (true, false, true),
        (true, true, true),
        (false, true, true),
    ] {
        ensure!(seen.contains(&state), "never killed in {state:?}: {seen:?}");
    }
    println!("killed {} times", seen.len());
    Ok(())
}

fn run_to_its_end(command: &str, device: &str) -> Result<()> {
    let output = Command::new("hugebar").args([command, device]).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// Runs a program, and kills it before its system call of this number, of those in [`CALLS`]; none if it has fewer. A filter
/// stops it at these only, because an emulated machine takes long for each stop.
#[allow(unsafe_code, reason = "calls between fork and exec")]
fn killed(words: &[&str], at: u32) -> Result<Option<()>> {
    let filter = SeccompFilter::new(
        CALLS.iter().map(|call| (*call, Vec::new())).collect(),
        SeccompAction::Allow,
        SeccompAction::Trace(0),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let prepare = move || {
        ptrace::traceme()?;
        seccompiler::apply_filter(&program).map_err(std::io::Error::other)
    };
    // SAFETY: three system calls; nothing is allocated unless they fail.
    unsafe { command.pre_exec(prepare) };
    let mut child = command.spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let stopped = waitpid(pid, None)?;
    ensure!(
        matches!(stopped, WaitStatus::Stopped(_, Signal::SIGTRAP)),
        "{stopped:?}"
    );
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESECCOMP)?;
    let mut calls = 0;
    let mut signal = None;
    loop {
        ptrace::cont(pid, signal.take())?;
        match waitpid(pid, None)? {
            WaitStatus::PtraceEvent(..) if calls == at => {
                child.kill().context("kill")?;
                child.wait()?;
                return Ok(Some(()));
            }
            WaitStatus::PtraceEvent(..) => calls += 1,
            WaitStatus::Stopped(_, own) => signal = Some(own),
            WaitStatus::Exited(_, 0) => return Ok(None),
            other => bail!("{words:?}: {other:?}"),
        }
    }
}

/// The calls that change files, or start the processes that write to sysfs (threads are started by `clone3`).
const CALLS: [i64; 4] = [MKDIR, libc::SYS_renameat2, UNLINK, libc::SYS_clone];

#[cfg(target_arch = "x86_64")]
const MKDIR: i64 = libc::SYS_mkdir;
#[cfg(target_arch = "x86_64")]
const UNLINK: i64 = libc::SYS_unlink;
/// Other architectures have only the newer calls.
#[cfg(not(target_arch = "x86_64"))]
const MKDIR: i64 = libc::SYS_mkdirat;
#[cfg(not(target_arch = "x86_64"))]
const UNLINK: i64 = libc::SYS_unlinkat;
