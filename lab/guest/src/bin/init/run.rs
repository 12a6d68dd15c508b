//! Runs the commands of a job: starts, times and ends them, and forwards their output.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hugebar_lab_guest::frame::{Ended, MAX_PAYLOAD};
use hugebar_lab_guest::{Command, Frame, Job, Kind, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process_group, pidfd_open, wait,
};

use crate::line::Line;
use crate::{setup, verbs};

const PATH: &str = "/bin:/sbin:/usr/bin:/usr/sbin";

/// How long to wait for the output of an ended command to close: a process that it left behind may keep it open.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// How long a background command has after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(5);

/// Runs every command of the job in turn, and after the last one ends those in the background.
pub(crate) fn all(job: &Job, line: Arc<Line>) -> Result<()> {
    let mut runner = Runner {
        line,
        library_path: job.library_path.join(":"),
        background: HashMap::new(),
        reaped: HashMap::new(),
    };
    for (index, command) in job.commands.iter().enumerate() {
        let index = u16::try_from(index).context("too many commands")?;
        runner.one(index, command)?;
    }
    let mut left: Vec<_> = runner.background.keys().copied().collect();
    left.sort_unstable();
    for index in left {
        runner.signal(index, Signal::TERM)?;
        runner.end(index, Some(TERM_GRACE))?;
    }
    Ok(())
}

struct Runner {
    line: Arc<Line>,
    library_path: String,
    background: HashMap<u16, Running>,
    /// The statuses of reaped processes that were not used yet; those of orphans stay here.
    reaped: HashMap<Pid, WaitStatus>,
}

/// A process that was started and not yet reaped.
struct Running {
    pid: Pid,
    pidfd: OwnedFd,
    started: Instant,
    /// Signals the awaited text, once for each stream that contains it; disconnected when both output streams are closed.
    output: Receiver<()>,
}

impl Runner {
    fn one(&mut self, index: u16, command: &Command) -> Result<()> {
        let argv = self.with_pids(&command.argv)?;
        let program = argv.first().context("an empty command")?.clone();
        if let Some(policy) = command.thp {
            setup::thp(policy)?;
        }
        if program.starts_with('@') {
            return self.verb(index, &argv, command.uid);
        }
        match self.start(index, &argv, command) {
            Ok(running) => {
                let output = &running.output;
                if command.background.is_some() {
                    // It is ready or has ended; in both cases the next command starts.
                    match command.time_limit {
                        Some(limit) => drop(output.recv_timeout(limit)),
                        None => drop(output.recv()),
                    }
                    self.background.insert(index, running);
                    Ok(())
                } else {
                    self.finish(index, running, command.time_limit)
                }
            }
            Err(error) => {
                let code = match error.kind() {
                    io::ErrorKind::NotFound => 127,
                    _ => 126,
                };
                let text = format!("init: cannot run {program} (PATH is {PATH}): {error}\n");
                self.print(index, Kind::Stderr, text.as_bytes())?;
                self.report(index, Status::Exited(code), Instant::now())
            }
        }
    }

    fn start(&self, index: u16, argv: &[String], command: &Command) -> io::Result<Running> {
        let mut process = Process::new(&argv[0]);
        process
            .args(&argv[1..])
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/tmp")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if !self.library_path.is_empty() {
            process.env("LD_LIBRARY_PATH", &self.library_path);
        }
        process.envs(command.env.iter().map(|(name, value)| (name, value)));
        if let Some(uid) = command.uid {
            process.uid(uid).gid(uid);
        }
        let started = Instant::now();
        let mut child = process.spawn()?;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(io::ErrorKind::InvalidData)?;
        let (sender, output) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            let ready = command.background.clone();
            self.pump(index, Kind::Stdout, stdout, sender.clone(), ready);
        }
        if let Some(stderr) = child.stderr.take() {
            let ready = command.background.clone().filter(|text| !text.is_empty());
            self.pump(index, Kind::Stderr, stderr, sender, ready);
        }
        Ok(Running {
            pid,
            pidfd: pidfd_open(pid, PidfdFlags::empty())?,
            started,
            output,
        })
    }

    /// Forwards a stream as it arrives, and signals the first occurrence of `ready`.
    fn pump(
        &self,
        index: u16,
        kind: Kind,
        mut stream: impl Read + Send + 'static,
        seen: Sender<()>,
        mut ready: Option<String>,
    ) {
        let line = Arc::clone(&self.line);
        thread::spawn(move || {
            let mut piece = vec![0; MAX_PAYLOAD];
            let mut before = Vec::new();
            if ready.as_deref() == Some("") {
                ready = None;
                let _ = seen.send(());
            }
            while let Ok(length @ 1..) = stream.read(&mut piece) {
                // A broken line ends the machine, so the error cannot be reported.
                let _ = line.send(&Frame::new(kind, index, &piece[..length]));
                if let Some(text) = &ready {
                    before.extend_from_slice(&piece[..length]);
                    if before
                        .windows(text.len())
                        .any(|part| part == text.as_bytes())
                    {
                        ready = None;
                        let _ = seen.send(());
                    }
                }
            }
        });
    }

    /// Waits for the end of a process, kills its group after the limit, and reports the status.
    fn finish(&mut self, index: u16, running: Running, limit: Option<Duration>) -> Result<()> {
        let limit = limit.map(|limit| limit.saturating_sub(running.started.elapsed()));
        let timed_out = !ended(&running.pidfd, limit)?;
        if timed_out {
            kill_process_group(running.pid, Signal::KILL).context("cannot kill the command")?;
            ended(&running.pidfd, None)?;
        }
        let until = Instant::now() + OUTPUT_GRACE;
        while let Ok(()) = running
            .output
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {}
        let status = self.reap(running.pid)?;
        let status = match (timed_out, status.exit_status(), status.terminating_signal()) {
            (true, _, _) => Status::TimedOut,
            (_, Some(code), _) => Status::Exited(code),
            (_, _, signal) => Status::Signaled(signal.unwrap_or(0)),
        };
        self.report(index, status, running.started)
    }

    /// Reaps all ended processes, including orphans, and returns the status of one.
    fn reap(&mut self, pid: Pid) -> Result<WaitStatus> {
        while let Ok(Some((ended, status))) = wait(WaitOptions::NOHANG) {
            self.reaped.insert(ended, status);
        }
        self.reaped
            .remove(&pid)
            .context("a process ended without a status")
    }

    fn report(&self, index: u16, status: Status, started: Instant) -> Result<()> {
        let ended = Ended {
            status,
            wall_ns: u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX),
        };
        let payload = serde_json::to_vec(&ended)?;
        self.line.send(&Frame::new(Kind::Status, index, payload))
    }

    fn print(&self, index: u16, kind: Kind, text: &[u8]) -> Result<()> {
        text.chunks(MAX_PAYLOAD)
            .try_for_each(|piece| self.line.send(&Frame::new(kind, index, piece)))
    }

    fn verb(&mut self, index: u16, argv: &[String], uid: Option<u32>) -> Result<()> {
        let started = Instant::now();
        let done = match uid {
            Some(_) => Err(anyhow::anyhow!("a verb of PID 1 always runs as root")),
            None => self.own_verb(argv),
        };
        let code = match done {
            Ok((output, code)) => {
                self.print(index, Kind::Stdout, &output)?;
                code
            }
            Err(error) => {
                let text = format!("{}: {error:#}\n", argv[0]);
                self.print(index, Kind::Stderr, text.as_bytes())?;
                2
            }
        };
        self.report(index, Status::Exited(code), started)
    }

    /// Executes the verbs about other commands; all others are independent.
    fn own_verb(&mut self, argv: &[String]) -> Result<verbs::Answer> {
        let words: Vec<_> = argv.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["@signal", index, signal] => {
                let signal = signal.parse().ok().and_then(Signal::from_named_raw);
                self.signal(index.parse()?, signal.context("no such signal")?)?;
                Ok((Vec::new(), 0))
            }
            ["@wait", index] => {
                self.end(index.parse()?, None)?;
                Ok((Vec::new(), 0))
            }
            words => verbs::run(words),
        }
    }

    fn signal(&self, index: u16, signal: Signal) -> Result<()> {
        let running = self.in_background(index)?;
        match kill_process_group(running.pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).context("cannot send the signal"),
        }
    }

    fn end(&mut self, index: u16, grace: Option<Duration>) -> Result<()> {
        self.in_background(index)?;
        if let Some(running) = self.background.remove(&index) {
            let limit = grace.map(|grace| running.started.elapsed() + grace);
            self.finish(index, running, limit)?;
        }
        Ok(())
    }

    fn in_background(&self, index: u16) -> Result<&Running> {
        self.background
            .get(&index)
            .with_context(|| format!("command {index} is not in the background"))
    }

    fn with_pids(&self, argv: &[String]) -> Result<Vec<String>> {
        let mut argv = argv.to_vec();
        for (index, running) in &self.background {
            let placeholder = format!("{{pid:{index}}}");
            for word in &mut argv {
                *word = word.replace(&placeholder, &running.pid.to_string());
            }
        }
        ensure!(
            !argv.iter().any(|word| word.contains("{pid:")),
            "{{pid:N}} names a command that is not in the background: {argv:?}"
        );
        Ok(argv)
    }
}

/// Waits until the process has ended; false if the limit passed first.
fn ended(pidfd: &OwnedFd, limit: Option<Duration>) -> Result<bool> {
    let limit = limit.map(Timespec::try_from).transpose()?;
    loop {
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], limit.as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for a process"),
        }
    }
}
