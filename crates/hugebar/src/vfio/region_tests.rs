//! Region info as drivers might send it: well-formed, odd, hostile.

use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;
use crate::error::ErrorKind;
use crate::leaf::MIB;

const PAGE: u64 = 4096;
const SIZE: u64 = 16 * MIB;

/// Builds the bytes of an answer: the base fields, then capabilities as given.
struct Answer {
    info: RegionInfo,
    bytes: Vec<u8>,
}

impl Answer {
    fn new(size: u64) -> Self {
        let info = RegionInfo {
            flags: 0b111,
            size,
            offset: 2 << 40,
            index: 2,
            ..RegionInfo::default()
        };
        let bytes = info.as_bytes().to_vec();
        Self { info, bytes }
    }

    /// Adds a capability at the end and links it to the one before.
    fn cap(mut self, id: u16, body: &[u8]) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let offset = u32::try_from(self.bytes.len()).unwrap();
        self.link(offset);
        self.bytes.extend_from_slice(&id.to_ne_bytes());
        self.bytes.extend_from_slice(&1_u16.to_ne_bytes());
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(body);
        self
    }

    /// Points the last capability, or the base, to an offset.
    fn link(&mut self, offset: u32) {
        self.info.flags |= abi::REGION_CAPS;
        let mut at = self.info.cap_offset as usize;
        if at == 0 {
            self.info.cap_offset = offset;
            return;
        }
        loop {
            let field = &mut self.bytes[at + 4..at + 8];
            let next = u32::from_ne_bytes(field.try_into().unwrap());
            if next == 0 {
                field.copy_from_slice(&offset.to_ne_bytes());
                return;
            }
            at = next as usize;
        }
    }

    fn sparse(self, areas: &[Area]) -> Self {
        let count = u64::try_from(areas.len()).unwrap();
        let mut body = count.to_ne_bytes().to_vec();
        for area in areas {
            body.extend_from_slice(&area.offset.to_ne_bytes());
            body.extend_from_slice(&area.size.to_ne_bytes());
        }
        self.cap(abi::CAP_SPARSE_MMAP, &body)
    }

    fn parse(&self, msix: Option<Area>) -> Result<Region> {
        Region::parse(&self.info, &self.bytes, msix, PAGE)
    }

    fn areas(&self, msix: Option<Area>) -> Vec<Area> {
        self.parse(msix).unwrap().layout().areas().to_vec()
    }
}

fn area(offset: u64, size: u64) -> Area {
    Area::new(offset, size)
}

#[test]
fn without_capabilities_all_of_it_is_mapped() {
    let answer = Answer::new(SIZE);
    assert_eq!(answer.areas(None), [area(0, SIZE)]);
    let region = answer.parse(None).unwrap();
    assert_eq!(
        (region.index(), region.size(), region.offset()),
        (2, SIZE, 2 << 40)
    );
    assert!(region.capabilities().is_empty());
    assert!(region.map_options().read && region.map_options().write);
}

#[test]
fn without_the_mmap_flag_nothing_is() {
    let mut answer = Answer::new(SIZE);
    answer.info.flags = RegionFlags::READ.bits();
    let region = answer.parse(None).unwrap();
    assert!(!region.is_mappable() && region.layout().areas().is_empty());
    assert!(!region.map_options().write);
}

#[test]
fn the_msix_table_is_left_out_unless_the_driver_allows_it() {
    let table = Some(area(0x2010, 0x100));
    let holed = [area(0, 0x2000), area(0x3000, SIZE - 0x3000)];
    assert_eq!(Answer::new(SIZE).areas(table), holed);
    let other = Answer::new(SIZE).cap(abi::CAP_TYPE, &[0; 8]);
    assert_eq!(
        other.areas(table),
        holed,
        "another capability does not allow it"
    );
    let mappable = Answer::new(SIZE).cap(abi::CAP_MSIX_MAPPABLE, &[]);
    assert_eq!(mappable.areas(table), [area(0, SIZE)]);
    // A driver that lists areas takes care of the table itself.
    let sparse = Answer::new(SIZE).sparse(&[area(0, 0x4000)]);
    assert_eq!(sparse.areas(table), [area(0, 0x4000)]);
    // Beyond the BAR, or across its end.
    assert_eq!(
        Answer::new(SIZE).areas(Some(area(SIZE, 16))),
        [area(0, SIZE)]
    );
    let across = Answer::new(SIZE).areas(Some(area(SIZE - 16, 64)));
    assert_eq!(across, [area(0, SIZE - PAGE)]);
}

#[test]
fn sparse_areas_come_sorted_and_merged() {
    let sparse = [
        area(0x8000, 0x2000),
        area(0, 0),
        area(0x1000, 0x2000),
        area(0x9000, 0x3000),
        area(0x3000, 0x1000),
        area(SIZE - 0x1000, 0x8000),
        area(SIZE + 0x1000, 0x1000),
    ];
    assert_eq!(
        Answer::new(SIZE).sparse(&sparse).areas(None),
        [
            area(0x1000, 0x3000),
            area(0x8000, 0x4000),
            area(SIZE - 0x1000, 0x1000)
        ]
    );
    assert!(
        Answer::new(SIZE).sparse(&[]).areas(None).is_empty(),
        "an empty list allows nothing"
    );
}

#[test]
fn all_capabilities_are_kept_in_order() {
    let body = [7_u32.to_ne_bytes(), 9_u32.to_ne_bytes()].concat();
    let answer = Answer::new(SIZE)
        .cap(77, &[1, 2, 3])
        .cap(abi::CAP_TYPE, &body)
        .sparse(&[area(0, 0x1000)])
        .cap(abi::CAP_MSIX_MAPPABLE, &[]);
    let region = answer.parse(None).unwrap();
    assert_eq!(
        region.capabilities(),
        [
            Capability::Other { id: 77, version: 1 },
            Capability::Type {
                kind: 7,
                subtype: 9
            },
            Capability::SparseMmap(vec![area(0, 0x1000)]),
            Capability::MsixMappable,
        ]
    );
}

#[test]
fn an_unknown_version_is_not_interpreted() {
    let mut answer = Answer::new(SIZE).sparse(&[area(0, 0x1000)]);
    let at = answer.info.cap_offset as usize;
    answer.bytes[at + 2] = 2;
    let region = answer.parse(None).unwrap();
    assert_eq!(
        region.capabilities(),
        [Capability::Other { id: 1, version: 2 }]
    );
}

#[test]
fn broken_chains_are_errors() {
    let good = || {
        Answer::new(SIZE)
            .cap(abi::CAP_MSIX_MAPPABLE, &[])
            .cap(9, &[0; 8])
    };
    let broken = |what: &str, answer: Answer| {
        let error = answer.parse(None).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Malformed, "{what}");
    };
    let first = good().info.cap_offset;
    for (what, offset) in [
        ("a cycle", first),
        ("into the base", 8),
        ("unaligned", first + 2),
        ("at the end", 56),
        ("outside", 4096),
        ("far outside", u32::MAX - 3),
    ] {
        let mut answer = good();
        answer.link(offset);
        broken(what, answer);
    }
    let mut short = Answer::new(SIZE).sparse(&[area(0, 0x1000), area(0x2000, 0x1000)]);
    short.bytes.truncate(short.bytes.len() - 1);
    broken("a truncated list", short);
    let mut huge = Answer::new(SIZE).sparse(&[area(0, 0x1000)]);
    let at = huge.info.cap_offset as usize + 8;
    huge.bytes[at..at + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
    broken("a count beyond all bounds", huge);
    let mut nowhere = good();
    nowhere.info.cap_offset = 0;
    broken("capabilities without an offset", nowhere);
    broken("a size beyond all bounds", Answer::new(u64::MAX));
    broken(
        "a short type",
        Answer::new(SIZE).cap(abi::CAP_TYPE, &[0; 4]),
    );
    broken(
        "a list without a count",
        Answer::new(SIZE).cap(abi::CAP_SPARSE_MMAP, &[0; 4]),
    );
}

/// 256 KiB in which each header is also an area of the lists before it.
fn overlapping() -> Answer {
    let mut answer = Answer::new(SIZE);
    // Header, then the count and reserved bytes, where the next header starts.
    let step = 16;
    let end = 256 << 10;
    answer.info.flags |= abi::REGION_CAPS;
    answer.info.cap_offset = u32::try_from(answer.bytes.len()).unwrap();
    while answer.bytes.len() + step <= end {
        let next = u32::try_from(answer.bytes.len() + step).unwrap();
        let left = (end - answer.bytes.len()) / 16 - 1;
        answer.bytes.extend(abi::CAP_SPARSE_MMAP.to_ne_bytes());
        answer.bytes.extend(1_u16.to_ne_bytes());
        answer.bytes.extend(next.to_ne_bytes());
        answer
            .bytes
            .extend(u32::try_from(left).unwrap().to_ne_bytes());
        answer.bytes.extend(0_u32.to_ne_bytes());
    }
    answer
}

#[test]
fn capabilities_that_overlap_are_refused() {
    let answer = overlapping();
    assert_eq!(answer.bytes.len(), 256 << 10);
    let error = answer.parse(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    // The same with a chain short enough to be followed: each list reaches into the next capability.
    let at = answer.info.cap_offset as usize + 16 * (caps::MOST - 1);
    let mut shorter = overlapping();
    shorter.bytes[at + 4..at + 8].fill(0);
    let error = shorter.parse(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    // One header inside another.
    let mut inside = Answer::new(SIZE).cap(9, &[0; 8]);
    inside.link(inside.info.cap_offset + 4);
    let error = inside.parse(None).unwrap_err();
    assert!(error.to_string().contains("overlaps another"), "{error}");
}

#[test]
fn one_list_of_areas_and_a_bounded_chain() {
    let list = [area(0, 0x1000)];
    let two = Answer::new(SIZE).sparse(&list).sparse(&list);
    let error = two.parse(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("appears twice"), "{error}");
    let many = |count| (0..count).fold(Answer::new(SIZE), |answer, _| answer.cap(9, &[]));
    assert_eq!(
        many(caps::MOST).parse(None).unwrap().capabilities().len(),
        caps::MOST
    );
    let error = many(caps::MOST + 1).parse(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
}

#[test]
fn a_chain_may_go_backwards() {
    // The list comes first in the answer and last in the chain.
    let mut answer = Answer::new(SIZE)
        .sparse(&[area(0, 0x1000), area(0x2000, 0x1000)])
        .cap(77, &[0; 8]);
    let first = answer.info.cap_offset;
    let list = first as usize;
    let second = &answer.bytes[list + 4..list + 8];
    let second = u32::from_ne_bytes(second.try_into().unwrap());
    answer.bytes[list + 4..list + 8].fill(0);
    let at = second as usize + 4;
    answer.bytes[at..at + 4].copy_from_slice(&first.to_ne_bytes());
    answer.info.cap_offset = second;
    assert_eq!(answer.areas(None), [area(0, 0x1000), area(0x2000, 0x1000)]);
}

/// Plausible bytes: small numbers for offsets and counts.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        0_u32..96,
        Just(0x1_0001),
        any::<u32>(),
        Just(u32::MAX),
        (0_u32..24).prop_map(|n| n * 8)
    ];
    prop::collection::vec(word, 0..64)
        .prop_map(|words| words.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn any_bytes_give_an_error_or_a_valid_layout(
        tail in hostile(),
        first in prop_oneof![(4_u32..40).prop_map(|n| n * 8), any::<u32>()],
        size in prop_oneof![1_u64..1 << 30, any::<u64>()],
        flags: u32,
        msix in prop::option::of((any::<u64>(), 16_u64..0x8000)),
    ) {
        let mut answer = Answer::new(size);
        answer.info.flags = flags;
        answer.info.cap_offset = first;
        answer.bytes.extend(tail);
        let msix = msix.map(|(offset, size)| area(offset, size));
        let first = answer.info.cap_offset;
        if let Ok(chain) = caps::chain(&answer.bytes, size_of::<RegionInfo>(), first) {
            let bodies: usize = chain.iter().map(|raw| size_of::<abi::CapHeader>() + raw.body.len()).sum();
            prop_assert!(bodies <= answer.bytes.len() - size_of::<RegionInfo>(), "no byte is read twice");
            prop_assert!(chain.len() <= caps::MOST);
        }
        if let Ok(region) = answer.parse(msix) {
            let listed = |capability: &Capability| match capability {
                Capability::SparseMmap(areas) => areas.len(),
                _ => 0,
            };
            let listed: usize = region.capabilities().iter().map(listed).sum();
            prop_assert!(listed * size_of::<Area>() <= answer.bytes.len(), "bounded by the answer");
            let end = size.next_multiple_of(PAGE);
            let mut last = 0;
            for area in region.layout().areas() {
                prop_assert!(area.size > 0 && area.offset >= last);
                prop_assert!(area.offset % PAGE == 0 && area.size % PAGE == 0);
                last = area.end().unwrap();
                prop_assert!(last <= end);
            }
        }
    }
}
