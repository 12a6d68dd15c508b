//! The data of a command, and its description for the controller: pages and lists of pages (PRPs).

use hugebar::dma::DmaBuffer;
use hugebar::iommu::AddressSpace;

use crate::error::Result;
use crate::queue::Command;

/// The controller's page size.
pub(crate) const PAGE: usize = 4 << 10;

/// I/O commands.
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;

/// The direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    FromDrive,
    ToDrive,
}

/// A buffer for data, mapped once and reused.
pub(crate) struct Transfer {
    pub(crate) data: DmaBuffer,
    /// The I/O addresses of all pages but the first, read by the controller.
    list: DmaBuffer,
}

impl Transfer {
    /// A buffer of at least `bytes` bytes, at most 1 MiB.
    pub(crate) fn new(space: &AddressSpace, bytes: u64) -> Result<Self> {
        let data = DmaBuffer::new(space, bytes)?;
        let list = DmaBuffer::new(space, PAGE as u64)?;
        let rest = (data.iova()..).step_by(PAGE).skip(1);
        for (entry, page) in (0..pages(bytes) - 1).zip(rest) {
            list.write(8 * entry, page)?;
        }
        Ok(Self { data, list })
    }

    /// The two addresses of a command that moves the first `bytes` bytes.
    pub(crate) fn prps(&self, bytes: u64) -> (u64, u64) {
        let first = self.data.iova();
        let second = match pages(bytes) {
            0 | 1 => 0,
            2 => first + PAGE as u64,
            _ => self.list.iova(),
        };
        (first, second)
    }
}

/// The command that moves `blocks` blocks of a namespace, from block `first` on.
pub(crate) fn command(
    direction: Direction,
    namespace: u32,
    (first, blocks): (u64, u16),
    prps: (u64, u64),
) -> Command {
    let [a, b, c, d, e, f, g, h] = first.to_le_bytes();
    let (low, high) = ([a, b, c, d], [e, f, g, h]);
    let (low, high) = (u32::from_le_bytes(low), u32::from_le_bytes(high));
    Command {
        opcode: match direction {
            Direction::FromDrive => READ,
            Direction::ToDrive => WRITE,
        },
        namespace,
        prps,
        words: [low, high, u32::from(blocks) - 1, 0, 0, 0],
    }
}

fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE as u64)
}
