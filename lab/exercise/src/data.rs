//! Reads and writes through a mapping reach the device.
//!
//! The other side is a file on the host behind an `ivshmem-plain` device: it holds [`GREETING`] at
//! [`THEIRS`] when the guest starts, and must hold [`answer`] at the offsets of [`OURS`] afterwards.

use anyhow::{Result, ensure};
use hugebar::layout::Area;
use hugebar::leaf::MIB;
use hugebar::mem::Mapping;
use hugebar::pci::Address;
use hugebar::plan::Placement;
use hugebar::vfio::Backend;

use crate::bar::{self, Bar};

/// What the host has written.
const GREETING: u64 = 0x6775_6265_6261_7221;
/// The offsets of the host's words.
const THEIRS: [u64; 3] = [0x100, 2 * MIB + 8, 4 * MIB - 8];
/// The offsets of the guest's answers.
const OURS: [u64; 4] = [0, 0x8000, 2 * MIB, 4 * MIB - 16];

/// What the guest writes at an offset.
fn answer(offset: u64) -> u64 {
    !GREETING ^ offset
}

/// Words of each width arrive in their order, also where a block is aligned to no more than one of them.
fn blocks(bar: &Bar, mapping: &Mapping) -> Result<()> {
    let at = 0x9000;
    mapping.write_words(at + 1, &[1_u8, 2, 3, 4, 5])?;
    mapping.write_words(at + 6, &[0x0807_u16, 0x0a09])?;
    mapping.write_words(at + 12, &[0x100f_0e0d_u32, 0x1413_1211])?;
    mapping.write_words(at + 24, &[0x201f_1e1d_1c1b_1a19_u64])?;
    let mut seen = [0; 32];
    bar.device.region_read(2, at, &mut seen)?;
    let mut block = [0_u8; 32];
    mapping.read_words(at, &mut block)?;
    ensure!(seen == block, "{seen:?} {block:?}");
    let (low, high): (Vec<u8>, Vec<u8>) = ((1..=5).collect(), (7..=10).collect());
    ensure!(seen[1..6] == low && seen[6..10] == high, "{seen:?}");
    ensure!(seen[12..20].iter().copied().eq(0x0d..=0x14), "{seen:?}");
    ensure!(seen[24..].iter().copied().eq(0x19..=0x20), "{seen:?}");
    for width in [2, 4, 8] {
        let misaligned = match width {
            2 => mapping.read_u16(at + 1).is_err(),
            4 => mapping.read_u32(at + 2).is_err(),
            _ => mapping.read_u64(at + 4).is_err(),
        };
        ensure!(misaligned, "device memory has no unaligned words on arm64");
    }
    Ok(())
}

pub(crate) fn run(address: Address, backend: Backend) -> Result<()> {
    let bar = Bar::of(bar::open(address, backend)?)?;
    let page = bar::page();
    let holes = [Area::new(6 * page, page)];
    for placement in [
        Placement::Congruent,
        Placement::SizeAligned,
        Placement::Plain,
    ] {
        let mapping = bar.map(&bar.plan(&holes, placement)?)?;
        for offset in THEIRS {
            let found = mapping.read_u64(offset)?;
            ensure!(found == GREETING, "{placement} {offset:#x}: {found:#x}");
        }
        for offset in OURS {
            mapping.write_u64(offset, answer(offset))?;
            // The same register through the driver.
            let mut bytes = [0; 8];
            bar.device.region_read(2, offset, &mut bytes)?;
            ensure!(
                u64::from_le_bytes(bytes) == answer(offset),
                "{placement} {offset:#x}"
            );
        }
        bar.device
            .region_write(2, 0x200, &[placement as u8 + 1; 4])?;
        ensure!(mapping.read_u8(0x203)? == placement as u8 + 1);
        ensure!(mapping.read_u32(6 * page).is_err(), "the hole");
        blocks(&bar, &mapping)?;
    }
    ensure!(bar.device.config()?.ids()?.0 == 0x1af4);
    ensure!(
        bar.device
            .region_read(2, bar.region.size() - 4, &mut [0; 8])
            .is_err()
    );
    ensure!(bar.device.region_read(8, 0, &mut [0; 1]).is_err(), "no VGA");
    Ok(())
}
