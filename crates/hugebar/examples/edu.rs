//! A driver for QEMU's teaching device (`-device edu`): registers, an interrupt by message, memory for its DMA.
//! `docs/driver.md` explains it step by step, QEMU's `docs/specs/edu.rst` the registers.
//!
//! ```text
//! cargo run --example edu -- 0000:00:10.0 [iommufd]
//! ```

use std::time::Duration;

use hugebar::bar::Bar;
use hugebar::dma::DmaBuffer;
use hugebar::mem::{dma_rmb, dma_wmb};
use hugebar::vfio::{Backend, Device, Interrupts, IrqKind};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const FACTORIAL: u64 = 0x08;
const STATUS: u64 = 0x20;
const INTERRUPT: u64 = 0x24;
const ACKNOWLEDGE: u64 = 0x64;
/// Source, destination, length, command.
const DMA: [u64; 4] = [0x80, 0x88, 0x90, 0x98];
/// In the status: interrupt when the factorial is computed. In the command: start, with an interrupt at the end.
const WHEN_DONE: u32 = 0x80;
const START: u64 = 1 | 4;
/// In the command: from the device to memory.
const FROM_DEVICE: u64 = 2;
/// The device's own memory, as its DMA addresses it, and the end of the addresses that it reaches.
const INSIDE: u64 = 0x40000;
const REACH: u64 = 1 << 28;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("usage: edu DEVICE [iommufd]")?;
    let device = match arguments.next().as_deref() {
        Some("iommufd") => Device::open_by(address.parse()?, Backend::Iommufd)?,
        _ => Device::open(address.parse()?)?,
    };
    let (class, backend) = (device.config()?.class_code()?, device.backend());
    println!("class {class}, opened by {}", backend.ok_or("unknown")?);
    // Messages are written by the device, so it has to be a bus master for its interrupts too.
    device.set_bus_master(true)?;
    let registers = device.map_bar(0)?;
    let interrupts = device.enable_irqs(IrqKind::Msi, 1)?;

    registers.write(STATUS, WHEN_DONE)?;
    registers.write(FACTORIAL, 10_u32)?;
    wait(&registers, &interrupts)?;
    println!("10! = {}", registers.read::<u32>(FACTORIAL)?);

    let text = b"there and back again";
    let buffer = DmaBuffer::below(&device.address_space()?, 4096, REACH)?;
    buffer.copy_from(0, text)?;
    let transfer = |from: u64, to: u64, direction: u64| {
        for (register, value) in DMA.into_iter().zip([from, to, text.len() as u64]) {
            registers.write(register, value)?;
        }
        dma_wmb(); // The device sees what is in memory when it is told to start.
        registers.write(DMA[3], START | direction)?;
        wait(&registers, &interrupts)?;
        dma_rmb(); // What the device wrote is read after its interrupt.
        Result::Ok(())
    };
    transfer(buffer.iova(), INSIDE, 0)?;
    transfer(INSIDE, buffer.iova() + 2048, FROM_DEVICE)?;
    let mut back = [0; 20];
    buffer.copy_to(2048, &mut back)?;
    println!("{}", String::from_utf8_lossy(&back));
    Ok(())
}

/// Waits for an interrupt, and tells the device that it was seen.
fn wait(registers: &Bar, interrupts: &Interrupts) -> Result<()> {
    if interrupts.wait(0, Some(Duration::from_secs(5)))? == 0 {
        return Err("the device sends no interrupt".into());
    }
    let causes = registers.read::<u32>(INTERRUPT)?;
    Ok(registers.write(ACKNOWLEDGE, causes)?)
}
