//! Reads the page tables of another process, through that process itself.
//!
//! The kernel shows a process only its own tables. So the process is stopped while it waits in a
//! system call, and made to run a few of ours with the instruction that it waits at (`ptrace`): it opens the dump,
//! reads it into its own memory, and continues to wait.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use libc::{c_long, user_regs_struct};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The tables of the reading process.
pub(crate) const DUMP: &str = "/sys/kernel/debug/page_tables/current_user";

/// How much of the dump is read at a time.
const BUFFER: usize = 1 << 20;

/// How often to try to stop a process in a system call, and the time between two attempts.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// `orig_rax` of a thread outside system calls.
const NO_CALL: u64 = u64::MAX;

/// `syscall`.
const INSTRUCTION: [u8; 2] = [0x0f, 0x05];

/// Prints the rows of a process's page tables that map device memory.
pub(crate) fn run(pid: i32) -> Result<()> {
    let stopped = Stopped::stop(Pid::from_raw(pid))?;
    let dump = stopped.dump();
    // Even after a failure, it must not keep our registers.
    stopped.resume()?;
    for row in device_rows(&dump?) {
        println!("{row}");
    }
    Ok(())
}

/// The rows of a dump that map device memory (uncached: `PCD`) for the process.
pub(crate) fn device_rows(dump: &str) -> impl Iterator<Item = &str> {
    dump.lines()
        .filter(|row| row.contains(" USR ") && row.contains(" PCD "))
}

/// A process whose first thread is stopped in a system call.
struct Stopped {
    pid: Pid,
    memory: File,
    registers: user_regs_struct,
}

impl Stopped {
    /// Stops it, or retries a little later if it is running.
    fn stop(pid: Pid) -> Result<Self> {
        ptrace::seize(pid, ptrace::Options::empty())
            .with_context(|| format!("cannot trace process {pid}"))?;
        let path = format!("/proc/{pid}/mem");
        let memory = File::options().read(true).write(true).open(path)?;
        for _ in 0..ATTEMPTS {
            ptrace::interrupt(pid)?;
            wait_for_trap(pid)?;
            let registers = ptrace::getregs(pid)?;
            let mut instruction = [0; 2];
            memory.read_exact_at(&mut instruction, registers.rip - 2)?;
            if instruction == INSTRUCTION && registers.orig_rax != NO_CALL {
                return Ok(Self {
                    pid,
                    memory,
                    registers,
                });
            }
            ptrace::cont(pid, None)?;
            thread::sleep(PAUSE);
        }
        bail!("process {pid} does not wait in a system call")
    }

    /// Makes it read the dump.
    fn dump(&self) -> Result<String> {
        let size = BUFFER as u64;
        let access = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let kind = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        let no_file = u64::MAX;
        let buffer = self.call(libc::SYS_mmap, [0, size, access, kind, no_file, 0])?;
        let dump = self.dump_into(buffer);
        self.call(libc::SYS_munmap, [buffer, size, 0, 0, 0, 0])?;
        dump
    }

    fn dump_into(&self, buffer: u64) -> Result<String> {
        self.memory.write_all_at(DUMP.as_bytes(), buffer)?;
        let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
        let file = self
            .call(libc::SYS_open, [buffer, flags, 0, 0, 0, 0])
            .context(DUMP)?;
        let read = || -> Result<String> {
            let mut text = Vec::new();
            loop {
                let length = self.call(libc::SYS_read, [file, buffer, BUFFER as u64, 0, 0, 0])?;
                if length == 0 {
                    return Ok(String::from_utf8(text)?);
                }
                let from = text.len();
                text.resize(from + usize::try_from(length)?, 0);
                self.memory.read_exact_at(&mut text[from..], buffer)?;
            }
        };
        let text = read();
        self.call(libc::SYS_close, [file, 0, 0, 0, 0, 0])?;
        text
    }

    /// Makes it run one system call.
    fn call(&self, number: c_long, arguments: [u64; 6]) -> Result<u64> {
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let registers = user_regs_struct {
            rip: self.registers.rip - 2,
            rax: u64::try_from(number)?,
            // Otherwise the kernel would restart the interrupted call with these registers.
            orig_rax: NO_CALL,
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            ..self.registers
        };
        ptrace::setregs(self.pid, registers)?;
        ptrace::step(self.pid, None)?;
        wait_for_trap(self.pid)?;
        let result = ptrace::getregs(self.pid)?.rax;
        // The kernel returns the negated errno.
        let errno = result.wrapping_neg();
        if (1..4096).contains(&errno) {
            return Err(io::Error::from_raw_os_error(i32::try_from(errno)?))
                .with_context(|| format!("system call {number} in process {}", self.pid));
        }
        Ok(result)
    }

    /// Lets it continue: the kernel restarts the interrupted call, as after a signal without a handler.
    fn resume(&self) -> Result<()> {
        ptrace::setregs(self.pid, self.registers)?;
        ptrace::detach(self.pid, None)?;
        Ok(())
    }
}

/// Waits until a traced process stops, by our request or after a step.
fn wait_for_trap(pid: Pid) -> Result<()> {
    match waitpid(pid, Some(WaitPidFlag::__WALL))? {
        WaitStatus::Stopped(_, Signal::SIGTRAP)
        | WaitStatus::PtraceEvent(_, Signal::SIGTRAP, _) => Ok(()),
        other => bail!("process {pid} stopped unexpectedly: {other:?}"),
    }
}
