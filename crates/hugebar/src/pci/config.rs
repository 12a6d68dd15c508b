//! Configuration space: where the MSI-X table lies.

use crate::layout::Area;

/// `PCI_STATUS` and its bit for a capability list.
const STATUS: u16 = 0x06;
const STATUS_CAP_LIST: u8 = 0x10;
/// `PCI_CAPABILITY_LIST`: offset of the first capability.
const CAPABILITY_LIST: u16 = 0x34;
/// `PCI_CAP_ID_MSIX`.
const CAP_ID_MSIX: u8 = 0x11;
/// Capabilities lie between the header and the end of the classic 256 bytes, four bytes each at
/// least; a longer chain is a cycle.
const FIRST: u8 = 0x40;
const MOST: usize = (256 - FIRST as usize) / 4;

/// Where a function's MSI-X table lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MsixTable {
    /// The BAR that holds it.
    pub(crate) bar: u8,
    /// Its bytes in that BAR.
    pub(crate) area: Area,
}

/// Finds the MSI-X table by the capability list (`PCI_CAP_ID_MSIX` of `linux/pci_regs.h`).
///
/// `read` reads bytes of configuration space at an offset.
pub(crate) fn msix_table<E>(
    mut read: impl FnMut(u16, &mut [u8]) -> Result<(), E>,
) -> Result<Option<MsixTable>, E> {
    let mut status = [0; 2];
    read(STATUS, &mut status)?;
    if status[0] & STATUS_CAP_LIST == 0 {
        return Ok(None);
    }
    let mut pointer = [0; 1];
    read(CAPABILITY_LIST, &mut pointer)?;
    let mut next = pointer[0] & !3;
    for _ in 0..MOST {
        if next < FIRST {
            break;
        }
        let mut header = [0; 2];
        read(u16::from(next), &mut header)?;
        // A capability that cannot lie whole in the 256 bytes is none.
        if header[0] == CAP_ID_MSIX && next <= 0xf4 {
            let mut body = [0; 8];
            read(u16::from(next), &mut body)?;
            let [_, _, low, high, table @ ..] = body;
            let vectors = u64::from(u16::from_le_bytes([low, high]) & 0x7ff) + 1;
            let table = u32::from_le_bytes(table);
            return Ok(Some(MsixTable {
                bar: (table & 7) as u8,
                area: Area::new(u64::from(table & !7), vectors * 16),
            }));
        }
        next = header[1] & !3;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table_in(space: &[u8]) -> Option<MsixTable> {
        msix_table(|offset, buffer| {
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
        // 65 vectors, table in BAR 4 at 0x2000.
        space[0x80..0x88].copy_from_slice(&[0x11, 0x00, 0x40, 0x80, 0x04, 0x20, 0, 0]);
        let table = MsixTable {
            bar: 4,
            area: Area::new(0x2000, 65 * 16),
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
                prop_assert!(table.bar < 8 && table.area.size <= 2048 * 16);
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
