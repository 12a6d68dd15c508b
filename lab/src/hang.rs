//! Asks a stuck guest for the stacks of its tasks, by magic SysRq over its console: a break
//! precedes the key. The kernel answers by itself, whatever its programs do.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

/// QEMU's own key for a break on a line that it shares (`mux=on`): Ctrl-A, then `b`.
const BREAK: &[u8] = b"\x01b";

/// Shows all messages on the console, in spite of `quiet`.
const LOUD: u8 = b'7';

/// The keys, most informative first: blocked tasks, the CPUs' tasks, all tasks.
const KEYS: [u8; 3] = *b"wlt";

/// A kernel that is silent for this long has finished its answer, or will not give one.
const SILENCE: Duration = Duration::from_secs(2);

/// How long everything may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The pause between break and key.
const GAP: Duration = Duration::from_millis(50);

/// The console of one boot: a pipe for input, a file for output.
pub(crate) struct Console {
    input: File,
    output: PathBuf,
}

impl Console {
    /// The path for QEMU's `-chardev pipe`, which adds `.in` and `.out`.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join("console")
    }

    /// The file with the guest's output.
    pub(crate) fn output(dir: &Path) -> PathBuf {
        dir.join("console.out")
    }

    /// Recreates both, before QEMU opens them.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let (input, output) = (dir.join("console.in"), Self::output(dir));
        let create = || -> Result<File> {
            if input.exists() {
                fs::remove_file(&input)?;
            }
            mknodat(CWD, &input, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
            File::create(&output)?;
            // Also open it for reading, so that opening it does not wait for QEMU. None of our writes ever waits.
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
            Ok(rustix::fs::open(&input, flags, Mode::empty())?.into())
        };
        let input = create().context("cannot create the console")?;
        Ok(Console { input, output })
    }

    /// The guest's output so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// The guest's answer to all questions; empty if it gives none.
    pub(crate) fn ask(&mut self) -> String {
        let deadline = Instant::now() + LIMIT;
        let before = self.length();
        for key in [LOUD].into_iter().chain(KEYS) {
            let asked = self.length();
            if self.press(key).is_err() {
                break;
            }
            self.wait_for_silence(deadline);
            // A guest that ignores the first key will ignore the others.
            if self.length() == asked || Instant::now() >= deadline {
                break;
            }
        }
        let answer = fs::read(&self.output).unwrap_or_default();
        let answer = answer.get(before..).unwrap_or_default();
        String::from_utf8_lossy(answer).into_owned()
    }

    fn press(&mut self, key: u8) -> std::io::Result<()> {
        self.input.write_all(BREAK)?;
        thread::sleep(GAP);
        self.input.write_all(&[key])
    }

    fn wait_for_silence(&self, deadline: Instant) {
        let (mut length, mut since) = (self.length(), Instant::now());
        while since.elapsed() < SILENCE && Instant::now() < deadline {
            thread::sleep(GAP);
            let now = self.length();
            if now != length {
                (length, since) = (now, Instant::now());
            }
        }
    }

    fn length(&self) -> usize {
        fs::metadata(&self.output)
            .map_or(0, |file| usize::try_from(file.len()).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn who_does_not_answer_is_asked_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut console = Console::create(dir.path()).unwrap();
        fs::write(Console::output(dir.path()), "before").unwrap();
        let begun = Instant::now();
        assert_eq!(console.ask(), "");
        assert!(begun.elapsed() < LIMIT / 2, "{:?}", begun.elapsed());
        let mut asked = [0; 16];
        let length = console.input.read(&mut asked).unwrap();
        assert_eq!(&asked[..length], b"\x01b7");
        assert_eq!(console.text(), "before");
    }

    #[test]
    fn who_answers_is_asked_for_everything() {
        let dir = tempfile::tempdir().unwrap();
        let mut console = Console::create(dir.path()).unwrap();
        let (input, output) = (dir.path().join("console.in"), Console::output(dir.path()));
        fs::write(&output, "before").unwrap();
        let guest = thread::spawn(move || {
            let mut input = File::open(input).unwrap();
            let mut output = File::options().append(true).open(output).unwrap();
            let mut byte = [0];
            while input.read_exact(&mut byte).is_ok() && byte != *b"t" {
                output.write_all(&byte).unwrap();
            }
            output.write_all(b"t").unwrap();
        });
        assert_eq!(console.ask(), "\x01b7\x01bw\x01bl\x01bt");
        guest.join().unwrap();
    }
}
