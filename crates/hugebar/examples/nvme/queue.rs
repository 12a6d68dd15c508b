//! A pair of queues: commands that the controller reads, and completions that it writes.

use std::thread;
use std::time::{Duration, Instant};

use hugebar::bar::Bar;
use hugebar::dma::DmaBuffer;
use hugebar::iommu::AddressSpace;
use hugebar::mem::{OwnedRegister, dma_rmb, dma_wmb};

use crate::error::Result;

/// Bytes of a command and of a completion, and their binary logarithms, as the controller is told them.
const COMMAND: u64 = 1 << 6;
const COMPLETION: u64 = 1 << 4;

/// The doorbells start here, after the registers (NVMe over PCIe 1.1, 3.1.2).
const DOORBELLS: u64 = 0x1000;

/// No command takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A command: what all have in common, and words 10 to 15.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Command {
    pub(crate) opcode: u8,
    pub(crate) namespace: u32,
    /// Where the data is: I/O addresses of a page, and of the next one or of a list.
    pub(crate) prps: (u64, u64),
    pub(crate) words: [u32; 6],
}

/// What the controller says of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    /// Which command, as [`Queue::submit`] was told.
    pub(crate) id: u16,
    /// The command's own answer.
    pub(crate) result: u32,
    /// 0, or the status code type and status code of what went wrong.
    pub(crate) status: u16,
}

impl Completion {
    /// The completion of a command that went well.
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

/// A submission queue and its completion queue. One thread uses it, so nothing is locked.
pub(crate) struct Queue {
    commands: DmaBuffer,
    completions: DmaBuffer,
    /// How many entries each has; one stays free.
    depth: u16,
    tail: u16,
    head: u16,
    /// What a completion's phase tag is in this round.
    phase: bool,
    in_flight: u16,
    submitted: OwnedRegister<u32>,
    completed: OwnedRegister<u32>,
}

impl Queue {
    /// Memory and doorbells of the queues with a number. `stride` is how far doorbells are apart.
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

    /// Puts a command into the queue and rings the doorbell. Its completion has the same number, which no other command
    /// under way may have.
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
        let place = u64::from(self.tail) * COMMAND;
        for (offset, word) in (place..).step_by(8).zip(words) {
            self.commands.write(offset, word)?;
        }
        self.tail = (self.tail + 1) % self.depth;
        self.in_flight += 1;
        // The controller reads the command once it sees the doorbell.
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
        // The rest was written before the phase tag, and is to be read after it, the data too.
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

    /// Waits for the next completion, of a command that went well.
    pub(crate) fn wait(&mut self) -> Result<Completion> {
        let begin = Instant::now();
        loop {
            if let Some(completion) = self.take()? {
                return completion.ok();
            }
            if begin.elapsed() > PATIENCE {
                return Err("the drive does not answer".into());
            }
            thread::yield_now();
        }
    }
}

fn halves(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_le_bytes();
    [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
}
