//! Counts reads of 4 KiB per second, one queue per thread, by polling or by interrupts.

use std::thread;
use std::time::{Duration, Instant};

use hugebar::dma::DmaBuffer;
use hugebar::vfio::{Interrupts, IrqKind};

use crate::controller::{Controller, Namespace};
use crate::error::Result;
use crate::queue::Queue;
use crate::transfer::{Direction, PAGE, command};

pub(crate) struct Options {
    pub(crate) threads: u16,
    /// Reads in flight.
    pub(crate) depth: u16,
    pub(crate) time: Duration,
    /// Waits for interrupts instead of polling.
    pub(crate) interrupts: bool,
}

pub(crate) fn run(drive: &mut Controller, options: &Options) -> Result<()> {
    let threads = options.threads;
    let wanted = options.interrupts;
    let interrupts = match wanted {
        true => Some(drive.device().enable_irqs(IrqKind::Msix, threads.into())?),
        false => None,
    };
    // One entry of a queue stays free.
    let entries = options.depth.checked_add(1).ok_or("too deep")?;
    let queues = drive.queues(threads, entries, wanted)?;
    let mut readers = Vec::new();
    for queue in queues {
        readers.push(Reader::new(drive, queue, options.depth)?);
    }
    // The drive's queues may have fewer entries.
    let depth = readers.iter().map(|reader| reader.depth).min();
    let depth = depth.ok_or("no thread")?;
    let counts: Vec<std::result::Result<Count, String>> = thread::scope(|scope| {
        let interrupts = interrupts.as_ref();
        let all: Vec<_> = (0..)
            .zip(readers)
            .map(|(vector, mut reader)| {
                let waits = interrupts.map(|interrupts| (interrupts, vector));
                let time = options.time;
                scope.spawn(move || reader.read_for(time, waits).map_err(|e| e.to_string()))
            })
            .collect();
        let join = |one: thread::ScopedJoinHandle<'_, _>| one.join();
        let all = all.into_iter().map(join);
        all.map(|one| one.unwrap_or_else(|_| Err("a thread panicked".into())))
            .collect()
    });
    let mut rate = 0.0;
    for count in counts {
        let Count { reads, time } = count?;
        rate += reads as f64 / time.as_secs_f64();
    }
    let by = if wanted { "interrupts" } else { "polling" };
    println!("{threads} × {depth} reads of 4 KiB at a time, {by}: {rate:.0} IOPS");
    Ok(())
}

/// How many reads a thread completed, and in which time. Starting the thread and waiting for its last reads do not count.
struct Count {
    reads: u64,
    time: Duration,
}

/// A queue with a buffer for all reads in flight, mapped once, in one piece.
struct Reader {
    queue: Queue,
    memory: DmaBuffer,
    depth: u16,
    namespace: u32,
    /// The first block of the next read, and of the last one before it starts over.
    next: u64,
    last: u64,
    /// How many blocks a read has.
    count: u16,
}

impl Reader {
    fn new(drive: &Controller, queue: Queue, depth: u16) -> Result<Self> {
        let depth = depth.min(queue.depth() - 1);
        let Namespace { id, blocks, block } = drive.namespace;
        let count = u16::try_from(PAGE as u64 / block)?;
        if count == 0 {
            return Err(format!("blocks of {block} bytes are larger than a read").into());
        }
        Ok(Self {
            memory: DmaBuffer::new(drive.space(), u64::from(depth) * PAGE as u64)?,
            queue,
            depth,
            namespace: id,
            next: 0,
            last: blocks
                .checked_sub(count.into())
                .ok_or("the drive is smaller than a page")?,
            count,
        })
    }

    /// Reads the next 4 KiB into a page of the buffer; starts over at the end of the drive.
    fn submit(&mut self, page: u16) -> Result<()> {
        let place = self.memory.iova() + u64::from(page) * PAGE as u64;
        let blocks = (self.next, self.count);
        let read = command(Direction::FromDrive, self.namespace, blocks, (place, 0));
        self.queue.submit(page, &read)?;
        self.next += u64::from(self.count);
        if self.next > self.last {
            self.next = 0;
        }
        Ok(())
    }

    /// Reads for some time, and counts the reads that were completed in it.
    fn read_for(&mut self, time: Duration, waits: Option<(&Interrupts, u32)>) -> Result<Count> {
        let begin = Instant::now();
        let mut reads = 0;
        for page in 0..self.depth {
            self.submit(page)?;
        }
        let time = loop {
            let before = reads;
            while let Some(completion) = self.queue.take()? {
                reads += 1;
                self.submit(completion.ok()?.id)?;
            }
            let elapsed = begin.elapsed();
            if elapsed >= time {
                break elapsed;
            }
            if let Some((interrupts, vector)) = waits.filter(|_| reads == before) {
                interrupts.wait(vector, Some(Duration::from_millis(100)))?;
            }
        };
        // Nothing may be in flight when the buffer is unmapped.
        while self.queue.in_flight() > 0 {
            self.queue.wait()?;
        }
        Ok(Count { reads, time })
    }
}
