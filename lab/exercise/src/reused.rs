//! Memory that is used again as soon as its mapping is gone, while a device is still to write to it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use hugebar::dma::{DmaBuffer, DmaMapping, StableMemory};
use hugebar::iommu::{AddressSpace, DmaAccess};
use hugebar::mem::Memory;
use hugebar::seam::record;

use crate::edu::{Edu, PIECE, REACH};

/// What the device writes, and what the next user does.
const DEVICE: [u8; PIECE] = [0xde; PIECE];
const NEXT: [u8; PIECE] = [0x11; PIECE];

/// How often to try to drop a mapping before the device writes: a busy host may stop the guest for longer.
const TRIES: usize = 20;

pub(crate) fn run(edu: &Edu, space: &AddressSpace) -> Result<()> {
    let source = DmaBuffer::below(space, PIECE as u64, REACH)?;
    source.copy_from(0, &DEVICE)?;
    edu.load(source.iova())?;
    written_while_mapped(edu, space)?;
    by_the_next_user(edu, space, |mapping| {
        drop(mapping);
        Ok(())
    })?;
    by_the_next_user(edu, space, |mapping| {
        drop(mapping.unmap()?);
        Ok(())
    })?;
    buffer(edu, space)
}

/// A block of memory that its owner gives back to a pool, and waits until the next user has done with it.
struct Block {
    memory: Option<Memory>,
    /// Where the memory is.
    start: NonNull<u8>,
    bytes: u64,
    pool: Sender<Memory>,
    done: Receiver<()>,
}

// SAFETY: the memory is given away by the drop only, and is only reached through its file.
#[allow(unsafe_code, reason = "an owner of memory")]
unsafe impl StableMemory for Block {
    fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            let _ = self.pool.send(memory);
            // The end of the other thread counts as well.
            let _ = self.done.recv();
        }
    }
}

/// The device does write if the memory stays mapped.
fn written_while_mapped(edu: &Edu, space: &AddressSpace) -> Result<()> {
    let memory = Memory::shared(PIECE as u64, None)?;
    let file = file(&memory)?;
    let mapping = space.map_owned_below(memory, DmaAccess::ReadWrite, REACH)?;
    edu.start_to_write(mapping.iova())?;
    file.write_all_at(&NEXT, 0)?;
    edu.wait()?;
    ensure!(content(&file)? == DEVICE, "the device has not written");
    Ok(())
}

/// Another thread gets the memory when its owner is dropped, that is, before `release` returns. What that thread writes
/// is still there after the device's transfer.
fn by_the_next_user(
    edu: &Edu,
    space: &AddressSpace,
    release: impl Fn(DmaMapping<Block>) -> Result<()>,
) -> Result<()> {
    in_time(|| {
        let (pool, given) = channel();
        let (end, done) = channel();
        thread::scope(|scope| {
            let next = scope.spawn(move || {
                let result = next_user(edu, &given);
                drop(end);
                result
            });
            let memory = Memory::shared(PIECE as u64, None)?;
            let block = Block {
                start: memory.as_ptr(),
                bytes: memory.bytes(),
                memory: Some(memory),
                pool,
                done,
            };
            let mapping = space.map_owned_below(block, DmaAccess::ReadWrite, REACH)?;
            edu.start_to_write(mapping.iova())?;
            release(mapping)?;
            next.join().map_err(|_| anyhow!("it panicked"))?
        })
    })
}

fn next_user(edu: &Edu, given: &Receiver<Memory>) -> Result<bool> {
    let memory = given.recv().context("no memory")?;
    is_kept(edu, &file(&memory)?)
}

/// The memory of a buffer is unmapped before it is freed, and its file can be used at once.
fn buffer(edu: &Edu, space: &AddressSpace) -> Result<()> {
    in_time(|| {
        let memory = Memory::shared(PIECE as u64, None)?;
        let file = file(&memory)?;
        let buffer = DmaBuffer::of(space.map_owned_below(memory, DmaAccess::ReadWrite, REACH)?);
        edu.start_to_write(buffer.iova())?;
        let ((), calls) = record(|| drop(buffer));
        let order = calls.len() == 2 && calls[0].contains("UNMAP") && calls[1] == "munmap";
        ensure!(order, "{calls:?}");
        is_kept(edu, &file)
    })
}

/// Repeats until a transfer was still to come when the memory was used again; one that was not shows nothing.
fn in_time(once: impl Fn() -> Result<bool>) -> Result<()> {
    for _ in 0..TRIES {
        if once()? {
            return Ok(());
        }
    }
    anyhow::bail!("the device wrote before the mapping was gone, {TRIES} times")
}

/// Writes to memory that the device must not reach any more, and waits for the end of its transfer. Returns whether that
/// was still to come.
fn is_kept(edu: &Edu, file: &File) -> Result<bool> {
    file.write_all_at(&NEXT, 0)?;
    let in_time = edu.is_running()?;
    edu.wait()?;
    ensure!(
        content(file)? == NEXT,
        "the device has written to memory that was in use again"
    );
    Ok(in_time)
}

fn file(memory: &Memory) -> Result<File> {
    let file = memory.file().context("it is one of a file")?;
    Ok(File::from(file.try_clone_to_owned()?))
}

fn content(file: &File) -> Result<[u8; PIECE]> {
    let mut bytes = [0; PIECE];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
