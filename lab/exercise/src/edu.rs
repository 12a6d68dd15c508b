//! QEMU's teaching device (`edu`), which moves data between memory and its own page.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hugebar::bar::Bar;
use hugebar::mem::{dma_rmb, dma_wmb};
use hugebar::pci::Address;
use hugebar::vfio::{Backend, Device};

use crate::bar;

/// `hw/misc/edu.c`: registers, and the start of the device's own memory.
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;
const INSIDE: u64 = 0x40000;

/// Bits of the command.
const RUN: u64 = 1;
const FROM_DEVICE: u64 = 2;

/// The device has 28 address bits.
pub(crate) const REACH: u64 = 1 << 28;

/// The length of a transfer: QEMU 7.2 ends if it is the device's whole page.
pub(crate) const PIECE: usize = 4096 - 8;

pub(crate) struct Edu {
    pub(crate) device: Device,
    bar: Bar,
}

impl Edu {
    pub(crate) fn open(address: Address, backend: Backend) -> Result<Self> {
        let device = bar::open(address, backend)?;
        device.set_bus_master(true)?;
        let bar = device.map_bar(0)?;
        Ok(Self { device, bar })
    }

    /// Starts to move a piece, which QEMU does about 100 ms later.
    fn start(&self, source: u64, destination: u64, direction: u64) -> Result<()> {
        self.bar.write(SOURCE, source)?;
        self.bar.write(DESTINATION, destination)?;
        self.bar.write(COUNT, PIECE as u64)?;
        dma_wmb();
        Ok(self.bar.write(COMMAND, RUN | direction)?)
    }

    /// Whether a piece is still to be moved.
    pub(crate) fn is_running(&self) -> Result<bool> {
        Ok(self.bar.read::<u64>(COMMAND)? & RUN != 0)
    }

    /// Waits until the piece has been moved.
    pub(crate) fn wait(&self) -> Result<()> {
        let begin = Instant::now();
        while self.is_running()? {
            ensure!(begin.elapsed() < Duration::from_secs(20), "it never ends");
            std::thread::yield_now();
        }
        dma_rmb();
        Ok(())
    }

    /// Copies a piece at an I/O address into the device's own memory.
    pub(crate) fn load(&self, from: u64) -> Result<()> {
        self.start(from, INSIDE, 0)?;
        self.wait()
    }

    /// Starts to write the device's own memory to an I/O address.
    pub(crate) fn start_to_write(&self, to: u64) -> Result<()> {
        self.start(INSIDE, to, FROM_DEVICE)
    }

    /// Makes the device copy a piece from one I/O address to another.
    pub(crate) fn copy(&self, from: u64, to: u64) -> Result<()> {
        self.load(from)?;
        self.start_to_write(to)?;
        self.wait()
    }
}
