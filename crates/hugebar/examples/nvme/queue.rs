//! A pair of queues: commands that the controller reads, and completions that it writes.

use std::thread;
use std::time::{Duration, Instant};

use hugebar::bar::Bar;
use hugebar::dma::DmaBuffer;
use hugebar::iommu::AddressSpace;
use hugebar::mem::{OwnedRegister, dma_rmb, dma_wmb};

use crate::error::Result;

/// The sizes of a command and of a completion, and the binary logarithms that the controller wants to know.
const COMMAND: u64 = 1 << 6;
const COMPLETION: u64 = 1 << 4;

/// The doorbells start here, after the registers (NVMe over PCIe 1.1, 3.1.2).
const DOORBELLS: u64 = 0x1000;

/// How long a command may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A command: the common part, and words 10 to 15.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Command {
    pub(crate) opcode: u8,
    pub(crate) namespace: u32,
    /// The I/O addresses of the data: the first page, and the second page or a list of pages.
    pub(crate) prps: (u64, u64),
    pub(crate) words: [u32; 6],
}

/// The controller's answer to a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    /// The command's number, as passed to [`Queue::submit`].
    pub(crate) id: u16,
    /// The command-specific result.
    pub(crate) result: u32,
    /// 0, or status code type and status code of an error.
    pub(crate) status: u16,
}

impl Completion {
    /// The completion, if the command succeeded.
    pub(crate) fn ok(self) -> Result<Self> {
        match self.status {
            0 => Ok(self),
            status => Err(format!(
                "command {}: status code type {}, status code {:#x}",
                self.id,
                status >> 8 & 7,
                status & 0xff
            )
            .into()),
        }
    }
}

/// A submission queue and its completion queue. Only one thread uses it, so there are no locks.
pub(crate) struct Queue {
    commands: DmaBuffer,
    completions: DmaBuffer,
    /// The number of entries of each queue. One always stays free.
    depth: u16,
    tail: u16,
    head: u16,
    /// The phase tag of completions in this round.
    phase: bool,
    in_flight: u16,
    submitted: OwnedRegister<u32>,
    completed: OwnedRegister<u32>,
}

impl Queue {
    /// Memory and doorbells of the queue pair with a number. `stride` is the distance between doorbells.
    pub(crate) fn new(
        space: &AddressSpace,
        bar: &Bar,
        number: u16,
        stride: u64,
        depth: u16,
    ) -> Result<Self> {
        let doorbell = |index: u64| bar.owned_register(DOORBELLS + index * stride);
        Ok(Self {
            commands: DmaBuffer::new(space, u64::from(depth) * COMMAND)?,
            completions: DmaBuffer::new(space, u64::from(depth) * COMPLETION)?,
            depth,
            tail: 0,
            head: 0,
            phase: true,
            in_flight: 0,
            submitted: doorbell(2 * u64::from(number))?,
            completed: doorbell(2 * u64::from(number) + 1)?,
        })
    }

    /// The I/O addresses of the submission and of the completion queue.
    pub(crate) fn addresses(&self) -> (u64, u64) {
        (self.commands.iova(), self.completions.iova())
    }

    pub(crate) fn depth(&self) -> u16 {
        self.depth
    }

    pub(crate) fn in_flight(&self) -> u16 {
        self.in_flight
    }

    /// Puts a command into the queue and rings the doorbell. `id` returns in its completion; no other command in flight may
    /// have the same.
    pub(crate) fn submit(&mut self, id: u16, command: &Command) -> Result<()> {
        if self.in_flight + 1 >= self.depth {
            return Err("the queue is full".into());
        }
        let [w10, w11, w12, w13, w14, w15] = command.words.map(u64::from);
        let words = [
            u64::from(command.opcode) | u64::from(id) << 16 | u64::from(command.namespace) << 32,
            0,
            0,
            command.prps.0,
            command.prps.1,
            w10 | w11 << 32,
            w12 | w13 << 32,
            w14 | w15 << 32,
        ];
        let mut bytes = [0; size_of::<[u64; 8]>()];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.commands
            .copy_from(u64::from(self.tail) * COMMAND, &bytes)?;
        self.tail += 1;
        if self.tail == self.depth {
            self.tail = 0;
        }
        self.in_flight += 1;
        // The command must be in memory before the controller sees the doorbell.
        dma_wmb();
        self.submitted.write(self.tail.into());
        Ok(())
    }

    /// Takes the next completion, if the controller has written one.
    pub(crate) fn take(&mut self) -> Result<Option<Completion>> {
        let place = u64::from(self.head) * COMPLETION;
        let [id, status] = halves(self.completions.read(place + 12)?);
        if (status & 1 == 1) != self.phase {
            return Ok(None);
        }
        // The controller wrote the rest and the data before the phase tag: read them after it.
        dma_rmb();
        let result = self.completions.read(place)?;
        self.head += 1;
        if self.head == self.depth {
            self.head = 0;
            self.phase = !self.phase;
        }
        self.in_flight -= 1;
        self.completed.write(self.head.into());
        Ok(Some(Completion {
            id,
            result,
            status: status >> 1 & 0x7ff,
        }))
    }

    /// Waits for the next completion; an error if that command failed.
    pub(crate) fn wait(&mut self) -> Result<Completion> {
        let begin = Instant::now();
        loop {
            if let Some(completion) = self.take()? {
                return completion.ok();
            }
            if begin.elapsed() > PATIENCE {
                return Err("the drive did not answer in time".into());
            }
            thread::yield_now();
        }
    }
}

fn halves(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_le_bytes();
    [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
}
