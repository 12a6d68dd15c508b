//! Reads and writes reach the file, and nothing else.

use std::sync::Arc;

use hugebar::layout::{Area, Layout};
use hugebar::mem::{AccessError, MapOptions, OwnedRegister, OwnedSlot};
use hugebar::plan::Placement;

use crate::bar::{BAR, PLACEMENTS, hole, holed, map, map_with, page, pages, plan};
use crate::maps::{File, at};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "access::words_of_every_size_from_both_sides",
        words_of_every_size,
    ),
    ("access::only_whole_words_of_one_area", only_whole_words),
    ("access::only_what_the_region_allows", only_what_is_allowed),
    ("access::a_region_smaller_than_a_page", smaller_than_a_page),
    ("access::spans_are_pages_of_one_area", spans),
    ("access::registers_are_checked_once", registers),
    (
        "access::blocks_of_words_are_all_or_nothing",
        blocks_of_words,
    ),
    ("access::slots_and_registers_keep_the_mapping", shares),
];

fn words_of_every_size() {
    let file = File::new(BAR);
    for placement in PLACEMENTS {
        let mapping = map(&file, &plan(&holed(), placement)).unwrap();
        for (index, offset) in [0, pages(6) - 8, pages(7), BAR - 8].into_iter().enumerate() {
            let seed = 0x1122_3344_5566_7788_u64.rotate_left(u32::try_from(index).unwrap() * 8);
            mapping.write_u64(offset, seed).unwrap();
            let mut bytes = [0; 8];
            file.read(offset, &mut bytes);
            assert_eq!(bytes, seed.to_le_bytes(), "little-endian in the device");
            file.write(offset, &seed.to_be_bytes());
            let bytes = seed.to_be_bytes();
            let [b0, b1, b2, b3, .., b7] = bytes;
            assert_eq!(mapping.read_u64(offset), Ok(u64::from_le_bytes(bytes)));
            let low = u32::from_le_bytes([b0, b1, b2, b3]);
            assert_eq!(mapping.read_u32(offset), Ok(low));
            let second = u16::from_le_bytes([b2, b3]);
            assert_eq!(mapping.read_u16(offset + 2), Ok(second));
            assert_eq!(mapping.read_u8(offset + 7), Ok(b7));
            mapping.write_u8(offset, 0xab).unwrap();
            mapping.write_u16(offset + 2, 0xcdef).unwrap();
            mapping.write_u32(offset + 4, 0x0102_0304).unwrap();
            assert_eq!(mapping.read::<u64>(offset).unwrap() >> 16, 0x0102_0304_cdef);
        }
    }
}

fn only_whole_words() {
    let file = File::new(BAR);
    let mapping = map(&file, &plan(&holed(), Placement::Congruent)).unwrap();
    let in_hole = |offset, len| AccessError::Hole { offset, len };
    let (start, end) = (pages(6), pages(7));
    assert_eq!(mapping.read_u32(start), Err(in_hole(start, 4)));
    assert_eq!(mapping.write_u8(end - 1, 1), Err(in_hole(end - 1, 1)));
    assert_eq!(
        mapping.read_u32(2),
        Err(AccessError::Misaligned { offset: 2, size: 4 })
    );
    for (offset, len) in [(BAR, 4), (u64::MAX - 3, 4)] {
        assert_eq!(
            mapping.read_u32(offset),
            Err(AccessError::OutOfRegion { offset, len })
        );
    }
    assert!(mapping.pointer(start - 1, 1).is_ok());
    assert_eq!(
        mapping.pointer(start - 1, 2),
        Err(in_hole(start - 1, 2)),
        "across the edge"
    );
    assert_eq!(mapping.pointer(0, BAR), Err(in_hole(0, BAR)));
    let late = Layout::with_areas(BAR, page(), [Area::new(end, page())]).unwrap();
    let mapping = map(&file, &plan(&late, Placement::Congruent)).unwrap();
    let before = mapping.read_u8(0);
    assert_eq!(before, Err(in_hole(0, 1)), "before the first area");
}

fn only_what_is_allowed() {
    let file = File::new(BAR);
    let plan = plan(&holed(), Placement::Congruent);
    let read = MapOptions {
        write: false,
        ..MapOptions::default()
    };
    let mapping = map_with(&file, &plan, read).unwrap();
    assert_eq!(mapping.read_u32(0), Ok(0));
    assert_eq!(mapping.write_u32(0, 1), Err(AccessError::NotWritable));
    let write = MapOptions {
        read: false,
        ..MapOptions::default()
    };
    let mapping = map_with(&file, &plan, write).unwrap();
    assert_eq!(mapping.read_u32(0), Err(AccessError::NotReadable));
    mapping.write_u32(0, 5).unwrap();
}

fn smaller_than_a_page() {
    let file = File::new(page());
    let layout = Layout::whole(256, page()).unwrap();
    let mapping = map(&file, &plan(&layout, Placement::Congruent)).unwrap();
    mapping.write_u32(252, 9).unwrap();
    assert_eq!(
        mapping.read_u32(256),
        Err(AccessError::OutOfRegion {
            offset: 256,
            len: 4
        })
    );
    assert_eq!(
        mapping.span(0, page()).unwrap().bytes(),
        page(),
        "pages go to their end"
    );
}

fn spans() {
    let file = File::new(BAR);
    let mapping = map(&file, &plan(&holed(), Placement::Congruent)).unwrap();
    assert_eq!(mapping.span(0, pages(6)).unwrap().bytes(), pages(6));
    for (offset, len) in [
        (0, 0),
        (0, 1),
        (1, page()),
        (0, page() / 2),
        (0, pages(7)),
        (pages(6), page()),
        (BAR, page()),
    ] {
        assert!(mapping.span(offset, len).is_err(), "{offset:#x}+{len:#x}");
    }
    assert!(mapping.span(BAR - page(), pages(2)).is_err());
}

fn registers() {
    let file = File::new(BAR);
    let mapping = map(&file, &plan(&holed(), Placement::Congruent)).unwrap();
    let at = pages(7);
    let register = mapping.register::<u32>(at).unwrap();
    register.write(0x1122_3344);
    assert_eq!(register.read(), 0x1122_3344);
    let mut bytes = [0; 4];
    file.read(at, &mut bytes);
    assert_eq!(bytes, 0x1122_3344_u32.to_le_bytes());
    assert_eq!(
        mapping.readable_register::<u8>(at + 3).unwrap().read(),
        0x11
    );
    mapping.writable_register::<u16>(at).unwrap().write(7);
    assert_eq!(register.read(), 0x1122_0007);
    // The same answers as for single accesses.
    for offset in [hole().offset, 2, BAR - 2, BAR, u64::MAX - 3] {
        let refused = mapping.register::<u32>(offset).map(drop);
        assert_eq!(refused, mapping.read_u32(offset).map(drop), "{offset:#x}");
        assert!(refused.is_err());
    }
    let plan = plan(&holed(), Placement::Congruent);
    for (read, write) in [(true, false), (false, true)] {
        let options = MapOptions {
            read,
            write,
            ..MapOptions::default()
        };
        let mapping = map_with(&file, &plan, options).unwrap();
        assert!(mapping.register::<u32>(0).is_err());
        assert_eq!(mapping.readable_register::<u32>(0).is_ok(), read);
        assert_eq!(mapping.writable_register::<u32>(0).is_ok(), write);
    }
}

fn blocks_of_words() {
    let file = File::new(BAR);
    let mapping = map(&file, &plan(&holed(), Placement::Congruent)).unwrap();
    let at = pages(7) + 4;
    mapping.write_words::<u32>(at, &[1, 2, 3]).unwrap();
    let mut words = [0_u32; 3];
    mapping.read_words(at, &mut words).unwrap();
    assert_eq!(words, [1, 2, 3]);
    let mut bytes = [0; 12];
    file.read(at, &mut bytes);
    assert_eq!(bytes, [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
    // The second word would be in the hole: the first is not written either.
    let last = hole().offset - 4;
    let across = mapping.write_words::<u32>(last, &[9, 9]);
    assert_eq!(
        across,
        Err(AccessError::Hole {
            offset: last,
            len: 8
        })
    );
    assert_eq!(mapping.read_u32(last), Ok(0));
    assert!(
        mapping.read_words(at + 2, &mut words).is_err(),
        "misaligned"
    );
    assert!(mapping.read_words(BAR - 8, &mut words).is_err(), "too long");
    assert_eq!(mapping.read_words::<u64>(BAR, &mut []), Ok(()));
}

/// Every sharer of the mapping keeps its addresses, whatever else is dropped.
fn shares() {
    let file = File::new(BAR);
    let mapping = Arc::new(map(&file, &plan(&holed(), Placement::Congruent)).unwrap());
    let register = OwnedRegister::<u32>::new(&mapping, pages(7)).unwrap();
    let slots = mapping.into_slots(&[Area::new(pages(9), page())]).unwrap();
    let areas: Vec<_> = slots.iter().map(OwnedSlot::area).collect();
    let between = Area::new(pages(7), pages(2));
    let rest = Area::new(pages(10), BAR - pages(10));
    assert_eq!(areas, [Area::new(0, pages(6)), between, rest]);
    for slot in &slots {
        let address = slot.as_ptr().addr().get() as u64;
        let line = at(address).unwrap();
        assert!(line.mode == "rw-s" && address + slot.bytes() <= line.end);
        assert_eq!(line.offset + (address - line.start), slot.offset());
    }
    let slot = slots.into_iter().next().unwrap();
    register.write(3);
    drop(slot);
    assert_eq!(register.read(), 3);
    let address = register.mapping().areas()[0].address();
    drop(register);
    assert!(at(address).is_none_or(|line| line.mode != "rw-s"));
}
