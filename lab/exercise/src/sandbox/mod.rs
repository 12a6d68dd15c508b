//! Each step on the way to a mapping, in a process that may do what docs/system-calls.md says of it and nothing
//! else; and without one thing of the list, to see that the list has nothing in it that is not needed.

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

/// Runs all steps that a device can be taken by this way.
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
        if step.backend != backend {
            continue;
        }
        let status = part(device, step, None)?;
        ensure!(status.success(), "{}: {status}", step.title);
        for call in &list.calls {
            let status = part(device, step, Some(call))?;
            let killed = status.signal() == Some(libc::SIGSYS);
            ensure!(killed, "{} without {call}: {status}", step.title);
        }
        for item in &list.files {
            let status = part(device, step, Some(&item.path))?;
            let (path, code) = (&item.path, if item.optional { 0 } else { 1 });
            ensure!(
                status.code() == Some(code),
                "{} without {path}: {status}",
                step.title
            );
        }
    }
    Ok(())
}

/// Runs a step in a process of its own.
fn part(device: Address, step: &Step, without: Option<&str>) -> Result<ExitStatus> {
    let mut part = Command::new(std::env::current_exe()?);
    part.args(["sandbox-part", &device.to_string(), step.title])
        .args(without);
    if without.is_some() {
        // What it says is as expected.
        part.stderr(std::process::Stdio::null());
    }
    Ok(part.status()?)
}

/// Does one step, confined to its list without one thing of it, and ends.
pub(crate) fn one(device: Address, title: &str, without: Option<&str>) -> Result<()> {
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
    let work = (step.prepare)(device)?;
    fill_allocator();
    confine::files(&list.files, device)?;
    // What looks for the cause of a file that is missing may take other system calls.
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
    // What was made is not dropped: that is a step of its own.
    std::mem::forget(made);
    end(code)
}

/// Ends this process at once: the standard library's own way out takes more system calls.
#[allow(
    unsafe_code,
    reason = "neither the standard library nor rustix ends a process by one call"
)]
fn end(code: i32) -> ! {
    // SAFETY: nothing of this process is needed after it.
    unsafe { libc::_exit(code) }
}

/// Leaves the allocator memory enough, so that its own calls do not mix with those of the step.
fn fill_allocator() {
    // Less than what it maps by itself, and than what it gives back when it is free.
    drop(std::hint::black_box(vec![1_u8; 100 << 10]));
}
