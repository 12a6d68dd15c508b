//! A driver for QEMU's teaching device (`-device edu`): registers, an interrupt by message, memory for its DMA.
//!
//! ```text
//! cargo run --example edu -- 0000:00:10.0 [iommufd]
//! ```
//!
//! The registers are described in QEMU's `docs/specs/edu.rst`.

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
const DMA_SOURCE: u64 = 0x80;
const DMA_DESTINATION: u64 = 0x88;
const DMA_COUNT: u64 = 0x90;
const DMA_COMMAND: u64 = 0x98;

/// In [`STATUS`]: an interrupt is wanted when the factorial is there.
const WHEN_DONE: u32 = 0x80;
/// In [`DMA_COMMAND`]: go, away from the device, and an interrupt is wanted at the end.
const GO: u64 = 1;
const FROM_DEVICE: u64 = 2;
const WITH_INTERRUPT: u64 = 4;

/// The device's own memory, as its DMA knows it; and how far that reaches into ours.
const INSIDE: u64 = 0x40000;
const REACH: u64 = 1 << 28;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("usage: edu DEVICE [iommufd]")?;
    let device = match arguments.next().as_deref() {
        Some("iommufd") => Device::open_by(address.parse()?, Backend::Iommufd)?,
        _ => Device::open(address.parse()?)?,
    };
    let class = device.config()?.class_code()?;
    println!(
        "class {class}, opened by {}",
        device.backend().ok_or("by whom?")?
    );

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
        registers.write(DMA_SOURCE, from)?;
        registers.write(DMA_DESTINATION, to)?;
        registers.write(DMA_COUNT, text.len() as u64)?;
        // What is in memory comes before the word to go, and is read after the interrupt.
        dma_wmb();
        registers.write(DMA_COMMAND, GO | WITH_INTERRUPT | direction)?;
        wait(&registers, &interrupts)?;
        dma_rmb();
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
