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
    let depth = options.depth.checked_add(1).ok_or("too deep")?;
    let queues = drive.queues(threads, depth, wanted)?;
    let mut readers = Vec::new();
    for queue in queues {
        readers.push(Reader::new(drive, queue, options.depth)?);
    }
    let end = Instant::now() + options.time;
    let begin = Instant::now();
    let counts: Vec<std::result::Result<u64, String>> = thread::scope(|scope| {
        let interrupts = interrupts.as_ref();
        let all: Vec<_> = (0..)
            .zip(readers)
            .map(|(vector, mut reader)| {
                let waits = interrupts.map(|interrupts| (interrupts, vector));
                scope.spawn(move || reader.read_until(end, waits).map_err(|e| e.to_string()))
            })
            .collect();
        let join = |one: thread::ScopedJoinHandle<'_, _>| one.join();
        let all = all.into_iter().map(join);
        all.map(|one| one.unwrap_or_else(|_| Err("a thread panicked".into())))
            .collect()
    });
    let elapsed = begin.elapsed();
    let mut reads = 0;
    for count in counts {
        reads += count?;
    }
    let by = if wanted { "interrupts" } else { "polling" };
    let rate = reads as f64 / elapsed.as_secs_f64();
    println!(
        "{threads} × {} reads of 4 KiB at a time, {by}: {rate:.0} IOPS",
        options.depth
    );
    Ok(())
}

/// A queue with a buffer for all reads in flight, mapped once, in one piece.
struct Reader {
    queue: Queue,
    memory: DmaBuffer,
    depth: u16,
    namespace: Namespace,
    next: u64,
}

impl Reader {
    fn new(drive: &Controller, queue: Queue, depth: u16) -> Result<Self> {
        let depth = depth.min(queue.depth() - 1);
        Ok(Self {
            memory: DmaBuffer::new(drive.space(), u64::from(depth) * PAGE as u64)?,
            queue,
            depth,
            namespace: drive.namespace,
            next: 0,
        })
    }

    /// Reads the next 4 KiB into a page of the buffer; starts over at the end of the drive.
    fn submit(&mut self, page: u16) -> Result<()> {
        let Namespace { id, blocks, block } = self.namespace;
        let count = u16::try_from(PAGE as u64 / block)?;
        let place = self.memory.iova() + u64::from(page) * PAGE as u64;
        let read = command(Direction::FromDrive, id, (self.next, count), (place, 0));
        self.queue.submit(page, &read)?;
        self.next += u64::from(count);
        if self.next + u64::from(count) > blocks {
            self.next = 0;
        }
        Ok(())
    }

    /// Reads until `end`, and returns how many were completed.
    fn read_until(&mut self, end: Instant, waits: Option<(&Interrupts, u32)>) -> Result<u64> {
        let mut reads = 0;
        for page in 0..self.depth {
            self.submit(page)?;
        }
        loop {
            let before = reads;
            while let Some(completion) = self.queue.take()? {
                reads += 1;
                self.submit(completion.ok()?.id)?;
            }
            if Instant::now() >= end {
                break;
            }
            if let Some((interrupts, vector)) = waits.filter(|_| reads == before) {
                interrupts.wait(vector, Some(Duration::from_millis(100)))?;
            }
        }
        // Nothing may be in flight when the buffer is unmapped.
        while self.queue.in_flight() > 0 {
            self.queue.wait()?;
        }
        Ok(reads)
    }
}
