//! The controller: registers, the admin queue, and creating I/O queues.

use std::time::{Duration, Instant};

use hugebar::bar::Bar;
use hugebar::dma::DmaBuffer;
use hugebar::iommu::AddressSpace;
use hugebar::mem::OwnedRegister;
use hugebar::vfio::Device;

use crate::error::Result;
use crate::queue::{Command, Completion, PATIENCE, Queue};
use crate::transfer::PAGE;

/// Registers (NVMe base specification 2.0, 3.1.3).
const CAPABILITIES: u64 = 0x00;
const CONFIGURATION: u64 = 0x14;
const STATUS: u64 = 0x1c;
const ADMIN_SIZES: u64 = 0x24;
const ADMIN_COMMANDS: u64 = 0x28;
const ADMIN_COMPLETIONS: u64 = 0x30;

/// In the configuration: enable, and entries of 64 and 16 bytes. In the status: ready and fatal.
const ENABLE: u32 = 1;
const ENTRIES: u32 = 6 << 16 | 4 << 20;
const READY: u32 = 1;
const FATAL: u32 = 1 << 1;

/// Admin commands.
const CREATE_SUBMISSION: u8 = 0x01;
const CREATE_COMPLETION: u8 = 0x05;
const IDENTIFY: u8 = 0x06;
const SET_FEATURES: u8 = 0x09;
const NUMBER_OF_QUEUES: u32 = 0x07;

const ADMIN_DEPTH: u16 = 32;

/// The one namespace that this driver uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Namespace {
    pub(crate) id: u32,
    pub(crate) blocks: u64,
    /// The size of a block in bytes.
    pub(crate) block: u64,
}

/// An enabled controller. Dropping it disables the controller, which then no longer accesses memory.
pub(crate) struct Controller {
    // Fields are dropped in this order: queues after the controller was disabled, the device last.
    admin: Queue,
    bar: Bar,
    space: AddressSpace,
    device: Device,
    stride: u64,
    deepest: u16,
    pub(crate) model: String,
    pub(crate) namespace: Namespace,
    /// The most bytes that one command can move.
    pub(crate) most: u64,
}

impl Controller {
    /// Resets and enables the controller of a device, and identifies it.
    pub(crate) fn new(device: Device) -> Result<Self> {
        device.set_bus_master(true)?;
        let bar = device.map_bar(0)?;
        let space = device.address_space()?;
        let capabilities: u64 = bar.read(CAPABILITIES)?;
        if capabilities >> 48 & 0xf != 0 {
            return Err("the controller does not support 4 KiB pages".into());
        }
        let stride = 4 << (capabilities >> 32 & 0xf);
        let timeout = Duration::from_millis(500 * (capabilities >> 24 & 0xff).max(1));
        enable(&bar, false, timeout)?;

        let admin = Queue::new(&space, &bar, 0, stride, ADMIN_DEPTH)?;
        let (commands, completions) = admin.addresses();
        let last = u32::from(ADMIN_DEPTH - 1);
        bar.write(ADMIN_SIZES, last | last << 16)?;
        bar.write(ADMIN_COMMANDS, commands)?;
        bar.write(ADMIN_COMPLETIONS, completions)?;
        enable(&bar, true, timeout)?;
        let mut own = Self {
            admin,
            bar,
            space,
            device,
            stride,
            deepest: u16::try_from((capabilities & 0xffff) + 1).unwrap_or(u16::MAX),
            model: String::new(),
            namespace: Namespace {
                id: 1,
                blocks: 0,
                block: 512,
            },
            most: 128 << 10,
        };
        own.identify()?;
        Ok(own)
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// Identifies the controller and its first namespace.
    fn identify(&mut self) -> Result<()> {
        let page = DmaBuffer::new(&self.space, PAGE as u64)?;
        let mut bytes = [0; PAGE];
        let mut ask = |own: &mut Self, namespace, what| {
            own.admin(&Command {
                opcode: IDENTIFY,
                namespace,
                prps: (page.iova(), 0),
                words: [what, 0, 0, 0, 0, 0],
            })?;
            page.copy_to(0, &mut bytes)?;
            Ok::<_, Box<dyn std::error::Error>>(bytes)
        };
        let controller = ask(self, 0, 1)?;
        self.model = String::from_utf8_lossy(&controller[24..64])
            .trim()
            .to_owned();
        let most = (PAGE as u64)
            .checked_shl(controller[77].into())
            .unwrap_or(u64::MAX);
        // As many pages as a list of one page can name.
        self.most = match controller[77] {
            0 => 1 << 20,
            _ => most.min(1 << 20),
        };
        let namespace = ask(self, self.namespace.id, 0)?;
        let mut blocks = [0; 8];
        blocks.copy_from_slice(&namespace[..8]);
        self.namespace.blocks = u64::from_le_bytes(blocks);
        // The format in use, and its block size as a power of two.
        let format = usize::from(namespace[26] & 0xf);
        self.namespace.block = 1_u64
            .checked_shl(namespace[128 + 4 * format + 2].into())
            .ok_or("a block of more than 64 bits")?;
        Ok(())
    }

    /// Creates `count` pairs of I/O queues. Completions of pair `n`, from 0 on, raise interrupt vector `n`.
    pub(crate) fn queues(
        &mut self,
        count: u16,
        depth: u16,
        interrupts: bool,
    ) -> Result<Vec<Queue>> {
        let last = u32::from(count.checked_sub(1).ok_or("no queue")?);
        let granted = self.admin(&Command {
            opcode: SET_FEATURES,
            words: [NUMBER_OF_QUEUES, last | last << 16, 0, 0, 0, 0],
            ..Command::default()
        })?;
        if (granted.result & 0xffff).min(granted.result >> 16) < last {
            return Err(format!("the controller does not have {count} pairs of queues").into());
        }
        let depth = depth.min(self.deepest);
        let mut queues = Vec::new();
        for number in 1..=count {
            let queue = Queue::new(&self.space, &self.bar, number, self.stride, depth)?;
            let (commands, completions) = queue.addresses();
            let sizes = u32::from(number) | u32::from(depth - 1) << 16;
            let vector = match interrupts {
                true => u32::from(number - 1) << 16 | 1 << 1,
                false => 0,
            };
            // The lowest bit says that the memory is contiguous.
            self.admin(&Command {
                opcode: CREATE_COMPLETION,
                prps: (completions, 0),
                words: [sizes, vector | 1, 0, 0, 0, 0],
                ..Command::default()
            })?;
            self.admin(&Command {
                opcode: CREATE_SUBMISSION,
                prps: (commands, 0),
                words: [sizes, u32::from(number) << 16 | 1, 0, 0, 0, 0],
                ..Command::default()
            })?;
            queues.push(queue);
        }
        Ok(queues)
    }

    /// Runs an admin command, and waits for its end.
    fn admin(&mut self, command: &Command) -> Result<Completion> {
        self.admin.submit(0, command)?;
        self.admin.wait()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // Even on an error: the IOMMU unmaps its queues next.
        let _ = enable(&self.bar, false, PATIENCE);
    }
}

/// Enables or disables the controller, and waits until it reports that.
fn enable(bar: &Bar, on: bool, timeout: Duration) -> Result<()> {
    let configuration: OwnedRegister<u32> = bar.owned_register(CONFIGURATION)?;
    let status: OwnedRegister<u32> = bar.owned_register(STATUS)?;
    configuration.write(if on { ENTRIES | ENABLE } else { 0 });
    let begin = Instant::now();
    loop {
        let now = status.read();
        if now & FATAL != 0 || now == u32::MAX {
            return Err(format!("the controller failed: status {now:#x}").into());
        }
        if (now & READY != 0) == on {
            return Ok(());
        }
        if begin.elapsed() > timeout {
            return Err("the controller did not become ready in time".into());
        }
        std::thread::yield_now();
    }
}
