//! One boot: starts QEMU, follows PID 1's output, and ends QEMU in time, whatever happens.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hugebar_lab_guest::frame::Ended;
use hugebar_lab_guest::{Frame, Kind};

use crate::hang::Console;
use crate::report::{Output, Stream};

/// A guest that has sent nothing after this time is dead: a boot takes seconds, a few more on a busy host.
const FIRST_WORD: Duration = Duration::from_secs(60);

/// How long a guest may take to power off.
const POWER_OFF: Duration = Duration::from_secs(15);

/// Receives output as it arrives: the command's index, the stream, and the bytes.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(usize, Stream, &[u8]);

/// The result of one boot.
pub(crate) struct Boot {
    pub(crate) end: End,
    pub(crate) commands: Vec<Output>,
    /// The running kernel; `None` if PID 1 sent nothing.
    pub(crate) release: Option<String>,
    pub(crate) boot_time: Duration,
    pub(crate) total_time: Duration,
    pub(crate) console: String,
    /// The guest's answer when asked for its stacks.
    pub(crate) stacks: String,
}

/// How a boot ended.
#[derive(Debug)]
pub(crate) enum End {
    /// PID 1 reported that all commands have run.
    Done,
    /// PID 1 reported that it could not set up the guest.
    Failed(String),
    /// The machine ended, or the line broke, before PID 1's last frame.
    Lost,
    /// It was ended because it took too long.
    TimedOut,
    /// QEMU itself failed: its message and its status.
    Qemu(String),
}

/// Runs QEMU until the guest has finished or `deadline` has passed. `qemu` begins with the program.
pub(crate) fn run(qemu: &[String], dir: &Path, deadline: Instant, sink: Sink<'_>) -> Result<Boot> {
    let mut console = Console::create(dir)?;
    let words = dir.join("qemu");
    let started = Instant::now();
    let mut qemu = Qemu::start(qemu, &words)?;
    let frames = qemu.frames()?;
    let mut boot = Boot {
        end: End::Lost,
        commands: Vec::new(),
        release: None,
        boot_time: Duration::ZERO,
        total_time: Duration::ZERO,
        console: String::new(),
        stacks: String::new(),
    };
    let first_word = deadline.min(started + FIRST_WORD);
    loop {
        let until = if boot.release.is_some() {
            deadline
        } else {
            first_word
        };
        match frames.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(frame) => {
                if frame.kind == Kind::Hello {
                    boot.boot_time = started.elapsed();
                }
                if let Some(end) = boot.take(frame, sink)? {
                    boot.end = end;
                    break;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                if Instant::now() >= deadline {
                    boot.end = End::TimedOut;
                }
                boot.console = console.text();
                boot.stacks = console.ask();
                qemu.kill();
                break;
            }
        }
    }
    let status = qemu.wait(Instant::now() + POWER_OFF)?;
    boot.total_time = started.elapsed();
    // Output after the request for stacks does not belong to the console before it.
    if boot.stacks.is_empty() {
        boot.console = console.text();
    }
    // If the guest panics or powers off, QEMU ends with status 0.
    if matches!(boot.end, End::Lost) && !qemu.killed && !status.success() {
        boot.end = End::Qemu(format!("{} ({status})", text(&words).trim()));
    }
    Ok(boot)
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

impl Boot {
    /// Handles a frame; returns the end if it was the last frame.
    fn take(&mut self, frame: Frame, sink: Sink<'_>) -> Result<Option<End>> {
        let index = usize::from(frame.command);
        let mut stream = |stream| {
            let command = self.command(index);
            let kept = match stream {
                Stream::Stdout => &mut command.stdout,
                Stream::Stderr => &mut command.stderr,
            };
            kept.extend_from_slice(&frame.payload);
            sink(index, stream, &frame.payload);
        };
        match frame.kind {
            Kind::Hello => {
                self.release = Some(String::from_utf8_lossy(&frame.payload).into_owned())
            }
            Kind::Stdout => stream(Stream::Stdout),
            Kind::Stderr => stream(Stream::Stderr),
            Kind::Status => {
                let ended: Ended = serde_json::from_slice(&frame.payload)
                    .context("PID 1 has reported an invalid status")?;
                let command = self.command(index);
                command.status = Some(ended.status);
                command.wall = Duration::from_nanos(ended.wall_ns);
            }
            Kind::Failed => {
                let reason = String::from_utf8_lossy(&frame.payload).into_owned();
                return Ok(Some(End::Failed(reason)));
            }
            Kind::Done => return Ok(Some(End::Done)),
        }
        Ok(None)
    }

    fn command(&mut self, index: usize) -> &mut Output {
        if self.commands.len() <= index {
            self.commands.resize(index + 1, Output::default());
        }
        &mut self.commands[index]
    }
}

/// A QEMU process that ends with its owner.
struct Qemu {
    process: Child,
    /// Whether it was ended from here.
    killed: bool,
}

impl Qemu {
    fn start(command: &[String], words: &Path) -> Result<Self> {
        // The kernel kills it when the thread that started it ends, so that a killed test leaves no machine behind.
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(words).context("cannot write to the work folder")?)
            .spawn()
            .map(|process| Qemu {
                process,
                killed: false,
            })
            .with_context(|| format!("cannot run setpriv with {}", command[0]))
    }

    /// Its frames, as they arrive. Invalid data ends the line, as does the end of QEMU.
    fn frames(&mut self) -> Result<Receiver<Frame>> {
        let line = self
            .process
            .stdout
            .take()
            .context("QEMU's output is a pipe")?;
        let (sender, frames) = mpsc::channel();
        thread::spawn(move || {
            let mut line = BufReader::new(line);
            while let Ok(Some(frame)) = Frame::read(&mut line) {
                if sender.send(frame).is_err() {
                    break;
                }
            }
        });
        Ok(frames)
    }

    fn kill(&mut self) {
        self.killed = true;
        // It may already have ended.
        let _ = self.process.kill();
    }

    /// Waits for its end, and kills it at the deadline.
    fn wait(&mut self, deadline: Instant) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                self.kill();
                return Ok(self.process.wait()?);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hugebar_lab_guest::Status;

    fn boot() -> Boot {
        Boot {
            end: End::Lost,
            commands: Vec::new(),
            release: None,
            boot_time: Duration::ZERO,
            total_time: Duration::ZERO,
            console: String::new(),
            stacks: String::new(),
        }
    }

    #[test]
    fn output_is_kept_for_each_command_and_passed_on() {
        let mut boot = boot();
        let mut passed = Vec::new();
        let ended = br#"{"status":{"exited":3},"wall_ns":1500}"#;
        for frame in [
            Frame::new(Kind::Hello, 0, *b"7.3.4"),
            Frame::new(Kind::Stdout, 1, *b"one"),
            Frame::new(Kind::Stderr, 0, *b"err"),
            Frame::new(Kind::Stdout, 1, *b"two"),
            Frame::new(Kind::Status, 1, *ended),
        ] {
            let mut sink =
                |index, stream, bytes: &[u8]| passed.push((index, stream, bytes.to_vec()));
            assert!(boot.take(frame, &mut sink).unwrap().is_none());
        }
        assert_eq!(boot.release.as_deref(), Some("7.3.4"));
        assert_eq!(boot.commands[1].stdout(), "onetwo");
        assert_eq!(boot.commands[1].status, Some(Status::Exited(3)));
        assert_eq!(boot.commands[0].code(), 125);
        assert_eq!(passed.len(), 3);
        assert_eq!(passed[1], (0, Stream::Stderr, b"err".to_vec()));
    }

    /// How a boot ends whose machine sends its first frame and then does this.
    fn end(then: &str) -> End {
        let dir = tempfile::tempdir().unwrap();
        let frame = dir.path().join("frame");
        let hello = Frame::new(Kind::Hello, 0, *b"7.3.4");
        hello.write(&mut File::create(&frame).unwrap()).unwrap();
        let script = format!("cat '{}'; {then}", frame.display());
        let qemu = ["sh".to_owned(), "-c".to_owned(), script];
        let deadline = Instant::now() + Duration::from_secs(60);
        let boot = run(&qemu, dir.path(), deadline, &mut |_, _, _| {}).unwrap();
        assert_eq!(boot.release.as_deref(), Some("7.3.4"));
        boot.end
    }

    #[test]
    fn the_end_of_qemu_itself_is_not_that_of_the_guest() {
        // A guest that panics ends QEMU with status 0.
        assert!(matches!(end("exit 0"), End::Lost));
        let End::Qemu(words) = end("echo 'assertion failed' >&2; kill -ABRT $$") else {
            panic!("QEMU itself failed");
        };
        assert!(words.starts_with("assertion failed (signal: 6"), "{words}");
        let End::Qemu(words) = end("exit 1") else {
            panic!("QEMU itself failed");
        };
        assert!(words.ends_with("(exit status: 1)"), "{words}");
    }

    #[test]
    fn the_last_words_end_it() {
        let mut sink = |_, _, _: &[u8]| {};
        let done = boot()
            .take(Frame::new(Kind::Done, 0, []), &mut sink)
            .unwrap();
        assert!(matches!(done, Some(End::Done)));
        let failed = boot()
            .take(Frame::new(Kind::Failed, 0, *b"why"), &mut sink)
            .unwrap();
        assert!(matches!(failed, Some(End::Failed(why)) if why == "why"));
    }
}
