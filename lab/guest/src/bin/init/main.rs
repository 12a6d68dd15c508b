//! PID 1 of the lab's virtual machine: sets up the guest, runs the commands of the job, and powers off.

mod bars;
mod kmsg;
mod line;
mod pci;
mod run;
mod setup;
mod verbs;

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use hugebar_lab_guest::job::{JOB_PATH, Job};
use hugebar_lab_guest::{Frame, Kind};
use rustix::process::Pid;
use rustix::system::{RebootCommand, reboot};

use crate::line::Line;

fn main() -> ExitCode {
    if rustix::process::getpid() != Pid::INIT {
        // It mounts file systems and powers the machine off: never on a host.
        eprintln!("init: this is the first process of the lab's virtual machine, nothing else");
        return ExitCode::from(2);
    }
    if let Err(error) = serve() {
        eprintln!("init: {error:#}");
    }
    // Returning would panic the kernel.
    match reboot(RebootCommand::PowerOff) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("init: cannot power off: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Everything between the first and the last frame.
fn serve() -> Result<()> {
    setup::mounts()?;
    let line = Arc::new(Line::open()?);
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    line.send(&Frame::new(Kind::Hello, 0, release))?;
    let last = match work(&line) {
        Ok(()) => Frame::new(Kind::Done, 0, []),
        Err(error) => Frame::new(Kind::Failed, 0, format!("{error:#}")),
    };
    line.send(&last)?;
    line.drain()
}

fn work(line: &Arc<Line>) -> Result<()> {
    let job = fs::read(JOB_PATH).with_context(|| format!("cannot read {JOB_PATH}"))?;
    let job: Job = serde_json::from_slice(&job).with_context(|| format!("bad {JOB_PATH}"))?;
    if job.addresses {
        bars::check()?;
    }
    if let Some(policy) = job.thp {
        setup::thp(policy)?;
    }
    for module in &job.modules {
        setup::load_module(module)?;
    }
    for address in &job.bind {
        pci::bind_devices(address, "vfio-pci")?;
    }
    run::all(&job, Arc::clone(line))
}
