//! A small NVMe driver: reads and writes blocks, and measures reads per second.
//!
//! ```text
//! cargo run --release --example nvme -- 0000:01:00.0 info
//! cargo run --release --example nvme -- 0000:01:00.0 read FIRST COUNT FILE
//! cargo run --release --example nvme -- 0000:01:00.0 write FIRST FILE
//! cargo run --release --example nvme -- 0000:01:00.0 bench --threads 2 --depth 32 --seconds 2 [--interrupts]
//! ```
//!
//! `queue` has the queues and doorbells, `controller` creates them, `transfer` describes data to the drive, `bench` counts
//! reads. The drive must be bound to `vfio-pci`, and nothing else may use it.
#![forbid(unsafe_code)]

mod bench;
mod controller;
mod error;
mod queue;
mod transfer;

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use hugebar::vfio::{Backend, Device};

use bench::Options;
use controller::Controller;
use error::Result;
use queue::Queue;
use transfer::{Direction, Transfer, command};

const USAGE: &str = "usage: nvme DEVICE [--iommufd] info | read FIRST COUNT FILE | write FIRST FILE | bench [--threads N] \
                     [--depth N] [--seconds N] [--interrupts]";

fn main() -> ExitCode {
    let mut words: Vec<String> = env::args().skip(1).collect();
    match run(&mut words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nvme: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &mut Vec<String>) -> Result<()> {
    let by_iommufd = flag(words, "--iommufd");
    let [device, command, rest @ ..] = &words[..] else {
        return Err(USAGE.into());
    };
    let address = device.parse()?;
    let device = match by_iommufd {
        true => Device::open_by(address, Backend::Iommufd)?,
        false => Device::open(address)?,
    };
    let mut drive = Controller::new(device)?;
    let mut rest = rest.to_vec();
    match (command.as_str(), &rest[..]) {
        ("info", []) => {
            let namespace = drive.namespace;
            println!(
                "{}: {} blocks of {} bytes, {} bytes a command",
                drive.model, namespace.blocks, namespace.block, drive.most
            );
            Ok(())
        }
        ("read", [first, count, file]) => read(&mut drive, first.parse()?, count.parse()?, file),
        ("write", [first, file]) => write(&mut drive, first.parse()?, file),
        ("bench", _) => {
            let options = Options {
                interrupts: flag(&mut rest, "--interrupts"),
                threads: option(&mut rest, "--threads", 1)?,
                depth: option(&mut rest, "--depth", 32)?,
                time: Duration::try_from_secs_f64(option(&mut rest, "--seconds", 2.0)?)?,
            };
            if !rest.is_empty() {
                return Err(USAGE.into());
            }
            bench::run(&mut drive, &options)
        }
        _ => Err(USAGE.into()),
    }
}

/// Takes an optional word.
fn flag(words: &mut Vec<String>, name: &str) -> bool {
    let before = words.len();
    words.retain(|word| word != name);
    words.len() < before
}

/// Takes a word and the number after it.
fn option<T>(words: &mut Vec<String>, name: &str, otherwise: T) -> Result<T>
where
    T: FromStr<Err: std::error::Error + 'static>,
{
    let Some(place) = words.iter().position(|word| word == name) else {
        return Ok(otherwise);
    };
    let number = words.get(place + 1).ok_or(USAGE)?.parse()?;
    words.drain(place..=place + 1);
    Ok(number)
}

fn read(drive: &mut Controller, first: u64, count: u64, file: &str) -> Result<()> {
    let mut file = File::create(file)?;
    let mut bytes = Vec::new();
    each_piece(drive, first, count, |_, piece| {
        let (transfer, len) = (piece.transfer, piece.len);
        piece.go(Direction::FromDrive)?;
        bytes.resize(len, 0);
        transfer.data.copy_to(0, &mut bytes)?;
        Ok(file.write_all(&bytes)?)
    })
}

fn write(drive: &mut Controller, first: u64, file: &str) -> Result<()> {
    let bytes = fs::read(file)?;
    let block = drive.namespace.block;
    let count = bytes.len() as u64 / block;
    if count == 0 || count * block != bytes.len() as u64 {
        return Err(format!(
            "{} bytes are not a multiple of the block size, {block}",
            bytes.len()
        )
        .into());
    }
    each_piece(drive, first, count, |done, piece| {
        let part = &bytes[done..done + piece.len];
        piece.transfer.data.copy_from(0, part)?;
        piece.go(Direction::ToDrive)
    })
}

/// As many blocks as one command can move.
struct Piece<'a> {
    queue: &'a mut Queue,
    transfer: &'a Transfer,
    namespace: u32,
    first: u64,
    blocks: u16,
    len: usize,
}

impl Piece<'_> {
    /// Moves them, and waits for the end.
    fn go(self, direction: Direction) -> Result<()> {
        let prps = self.transfer.prps(self.len as u64);
        let command = command(direction, self.namespace, (self.first, self.blocks), prps);
        self.queue.submit(0, &command)?;
        self.queue.wait()?;
        Ok(())
    }
}

/// Processes blocks in pieces. `work` gets the number of bytes already done.
fn each_piece(
    drive: &mut Controller,
    first: u64,
    count: u64,
    mut work: impl FnMut(usize, Piece<'_>) -> Result<()>,
) -> Result<()> {
    let namespace = drive.namespace;
    if first
        .checked_add(count)
        .is_none_or(|end| end > namespace.blocks)
    {
        return Err(format!("the drive has {} blocks", namespace.blocks).into());
    }
    let mut queues = drive.queues(1, 32, false)?;
    let transfer = Transfer::new(drive.space(), drive.most)?;
    let most = drive.most / namespace.block;
    let mut done = 0;
    while done < count {
        let blocks = u16::try_from((count - done).min(most))?;
        let piece = Piece {
            queue: &mut queues[0],
            transfer: &transfer,
            namespace: namespace.id,
            first: first + done,
            blocks,
            len: usize::try_from(u64::from(blocks) * namespace.block)?,
        };
        work(usize::try_from(done * namespace.block)?, piece)?;
        done += u64::from(blocks);
    }
    Ok(())
}
