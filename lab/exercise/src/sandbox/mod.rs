//! Runs each step on the way to a mapping in a process that may do only what docs/system-calls.md lists for it,
//! and again without each entry, to check that every entry is needed.

mod confine;
mod list;
mod steps;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, ensure};
use hugebar::pci::Address;
use hugebar::vfio::Backend;

use list::List;
use steps::{STEPS, Step};

/// Allows this process only these system calls, and those to report and end.
pub(crate) fn allow_only(calls: &[String]) -> Result<()> {
    confine::system_calls(calls)
}

/// Runs all steps for this backend.
pub(crate) fn run(device: Address, backend: Backend) -> Result<()> {
    let lists = list::all()?;
    let (listed, known): (Vec<_>, Vec<_>) = (
        lists.iter().map(|list| list.title.as_str()).collect(),
        STEPS.iter().map(|step| step.title).collect(),
    );
    ensure!(
        listed == known,
        "the document has {listed:?}, steps are {known:?}"
    );

    for (step, list) in STEPS.iter().zip(&lists) {
        if !step.backends.contains(&backend) {
            continue;
        }
        let status = part(device, backend, step, None)?;
        ensure!(status.success(), "{} by {backend}: {status}", step.title);
        for call in &list.calls {
            let status = part(device, backend, step, Some(call))?;
            let killed = status.signal() == Some(libc::SIGSYS);
            ensure!(
                killed,
                "{} by {backend} without {call}: {status}",
                step.title
            );
        }
        for item in &list.files {
            let status = part(device, backend, step, Some(&item.path))?;
            let (path, code) = (&item.path, if item.optional { 0 } else { 1 });
            ensure!(
                status.code() == Some(code),
                "{} by {backend} without {path}: {status}",
                step.title
            );
        }
    }
    Ok(())
}

/// Runs a step in its own process.
fn part(
    device: Address,
    backend: Backend,
    step: &Step,
    without: Option<&str>,
) -> Result<ExitStatus> {
    let mut part = Command::new(std::env::current_exe()?);
    let (device, backend) = (device.to_string(), backend.to_string());
    part.args(["sandbox-part", &device, &backend, step.title])
        .args(without);
    if without.is_some() {
        // Its message is expected.
        part.stderr(std::process::Stdio::null());
    }
    Ok(part.status()?)
}

/// Runs one step, confined to its list without one entry, and ends the process.
pub(crate) fn one(
    device: Address,
    backend: Backend,
    title: &str,
    without: Option<&str>,
) -> Result<()> {
    let step = STEPS.iter().find(|step| step.title == title);
    let step = step.context("no such step")?;
    let lists = list::all()?;
    let mut list: List = lists
        .into_iter()
        .find(|list| list.title == title)
        .context("no list")?;
    if let Some(without) = without {
        list.calls.retain(|call| call != without);
        list.files.retain(|item| item.path != without);
    }
    let work = (step.prepare)(device, backend)?;
    fill_allocator();
    confine::files(&list.files, device)?;
    // Looking for the cause of a missing file may take other system calls.
    if !without.is_some_and(|name| name.starts_with('/')) {
        confine::system_calls(&list.calls)?;
    }
    let made = work();
    let code = match &made {
        Ok(_) => 0,
        Err(error) => {
            eprintln!("{title}: {error:#}");
            1
        }
    };
    // The result is not dropped: that is a separate step.
    std::mem::forget(made);
    end(code)
}

/// Ends this process at once: the standard library's exit makes more system calls.
#[allow(
    unsafe_code,
    reason = "neither the standard library nor rustix ends a process by one call"
)]
fn end(code: i32) -> ! {
    // SAFETY: nothing of this process is needed afterwards.
    unsafe { libc::_exit(code) }
}

/// Gives the allocator enough free memory, so that its own calls do not mix with those of the step.
fn fill_allocator() {
    // Less than its thresholds for mapping separately and for returning free memory.
    drop(std::hint::black_box(vec![1_u8; 100 << 10]));
}
