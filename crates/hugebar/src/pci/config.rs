//! Configuration space: the command register, and where the MSI-X table and its pending bits lie.

use bitflags::bitflags;

use crate::layout::Area;

use super::capability::{Capabilities, Capability};

bitflags! {
    /// The command register of a function (`PCI_COMMAND_*`). Unknown bits are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Command: u16 {
        /// It answers accesses to its I/O ports.
        const IO = 1 << 0;
        /// It answers accesses to its memory: memory decode.
        const MEMORY = 1 << 1;
        /// It does DMA, and sends interrupts by MSI and MSI-X.
        const BUS_MASTER = 1 << 2;
        /// It answers parity errors.
        const PARITY = 1 << 6;
        /// It reports system errors (SERR#).
        const SERR = 1 << 8;
        /// It does not raise INTx.
        const INTX_DISABLE = 1 << 10;
        const _ = !0;
    }
}

/// What a function's MSI-X capability says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msix {
    /// How many vectors there are, 1 to 2048.
    pub vectors: u16,
    /// The BAR that holds the table.
    pub table_bar: u8,
    /// The table's bytes in that BAR; it may reach beyond the end of a faulty device's BAR.
    pub table: Area,
    /// The BAR that holds the pending bits (PBA).
    pub pba_bar: u8,
    /// The bytes of the pending bits in that BAR.
    pub pba: Area,
}

/// Finds the MSI-X table by the capability list (`PCI_CAP_ID_MSIX` of `linux/pci_regs.h`).
///
/// `read` reads bytes of configuration space at an offset.
pub(crate) fn msix<E>(
    mut read: impl FnMut(u16, &mut [u8]) -> Result<(), E>,
) -> Result<Option<Msix>, E> {
    let mut found = None;
    for capability in Capabilities::new(&mut read) {
        let Capability { id, offset } = capability?;
        // A capability that cannot lie whole in the 256 bytes is none.
        if id == Capability::MSIX && offset <= 0xf4 {
            found = Some(offset);
            break;
        }
    }
    let Some(offset) = found else {
        return Ok(None);
    };
    let mut body = [0; 12];
    read(offset, &mut body)?;
    let [_, _, control @ .., t0, t1, t2, t3, p0, p1, p2, p3] = body;
    let vectors = (u16::from_le_bytes(control) & 0x7ff) + 1;
    let table = u32::from_le_bytes([t0, t1, t2, t3]);
    let pba = u32::from_le_bytes([p0, p1, p2, p3]);
    let pending = u64::from(vectors).div_ceil(64) * 8;
    Ok(Some(Msix {
        vectors,
        table_bar: (table & 7) as u8,
        table: Area::new(u64::from(table & !7), u64::from(vectors) * 16),
        pba_bar: (pba & 7) as u8,
        pba: Area::new(u64::from(pba & !7), pending),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table_in(space: &[u8]) -> Option<Msix> {
        msix(|offset, buffer| {
            let start = usize::from(offset);
            let bytes = space.get(start..start + buffer.len()).ok_or(())?;
            buffer.copy_from_slice(bytes);
            Ok::<_, ()>(())
        })
        .expect("reads stay in the 256 bytes")
    }

    #[test]
    fn finds_the_table_behind_other_capabilities() {
        let mut space = [0; 256];
        space[0x06] = 0x10;
        space[0x34] = 0x40;
        space[0x40..0x42].copy_from_slice(&[0x01, 0x80]);
        // 65 vectors, table in BAR 4 at 0x2000, pending bits in BAR 2 at 0x3008.
        space[0x80..0x88].copy_from_slice(&[0x11, 0x00, 0x40, 0x80, 0x04, 0x20, 0, 0]);
        space[0x88..0x8c].copy_from_slice(&[0x0a, 0x30, 0, 0]);
        let table = Msix {
            vectors: 65,
            table_bar: 4,
            table: Area::new(0x2000, 65 * 16),
            pba_bar: 2,
            pba: Area::new(0x3008, 16),
        };
        assert_eq!(table_in(&space), Some(table));
        space[0x06] = 0;
        assert_eq!(table_in(&space), None, "no capability list");
    }

    proptest! {
        #[test]
        fn any_bytes_end_and_stay_in_bounds(mut space in prop::collection::vec(any::<u8>(), 256)) {
            space[0x06] |= 0x10;
            if let Some(table) = table_in(&space) {
                prop_assert!(table.table_bar < 8 && table.table.size <= 2048 * 16);
                prop_assert!(table.pba_bar < 8 && table.pba.size <= 2048 / 8);
            }
        }

        #[test]
        fn cycles_end(start in 0x40_u8..=0xfc, other in 0x40_u8..=0xfc) {
            let mut space = [0; 256];
            space[0x06] = 0x10;
            space[0x34] = start;
            let (start, other) = (start & !3, other & !3);
            space[usize::from(start) + 1] = other;
            space[usize::from(other) + 1] = start;
            prop_assert_eq!(table_in(&space), None);
        }
    }
}
