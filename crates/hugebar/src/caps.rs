//! Capability chains behind the kernel's info structs: finds each capability, without interpreting
//! it.

use zerocopy::FromBytes;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::abi::{CapHeader, ListHead, Pair};

/// The longest chain that is accepted. Kernels have a handful of kinds for each struct.
pub(crate) const MOST: usize = 64;

/// A raw capability: its ID and its body, up to the next capability or the
/// end of the answer (headers have no length). So bodies never overlap, and all of them together are
/// no longer than the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawCapability<'a> {
    pub(crate) id: u16,
    pub(crate) version: u16,
    pub(crate) body: &'a [u8],
}

/// Follows a chain through the bytes of an answer.
///
/// `base` is the size of the info struct, before which no capability can lie; `first` its
/// `cap_offset`, 0 for none. The kernel is not trusted: an offset that is out of bounds, unaligned,
/// inside another header or repeated is an error, and so is a chain of more than [`MOST`].
pub(crate) fn chain(answer: &[u8], base: usize, first: u32) -> Result<Vec<RawCapability<'_>>> {
    let mut headers: Vec<(usize, CapHeader)> = Vec::new();
    let mut next = first;
    while next != 0 {
        let wrong = |what| malformed(format!("capability at offset {next:#x} {what}"));
        let offset = next as usize;
        if headers.len() == MOST {
            return Err(wrong("exceeds the longest chain"));
        }
        if offset < base || offset % align_of::<CapHeader>() != 0 {
            return Err(wrong("cannot start there"));
        }
        for &(other, _) in &headers {
            if other == offset {
                return Err(wrong("appears twice in the chain"));
            }
            if other.abs_diff(offset) < size_of::<CapHeader>() {
                return Err(wrong("overlaps another one"));
            }
        }
        let rest = answer.get(offset..).ok_or_else(|| wrong("is outside"))?;
        let (header, _) =
            CapHeader::read_from_prefix(rest).map_err(|_| wrong("has no room for its header"))?;
        headers.push((offset, header));
        next = header.next;
    }
    let body = |offset: usize| {
        let behind = headers.iter().map(|(other, _)| *other);
        let end = behind.filter(|&other| other > offset).min();
        let start = offset + size_of::<CapHeader>();
        answer.get(start..end.unwrap_or(answer.len()))
    };
    let list = headers.iter().map(|&(offset, header)| RawCapability {
        id: header.id,
        version: header.version,
        body: body(offset).unwrap_or_default(),
    });
    Ok(list.collect())
}

/// The only capability of an ID and version, if there is one. Two are an error, because it is unclear which applies.
pub(crate) fn only<'a>(
    chain: &[RawCapability<'a>],
    id: u16,
    version: u16,
) -> Result<Option<RawCapability<'a>>> {
    let mut found = chain
        .iter()
        .filter(|raw| (raw.id, raw.version) == (id, version));
    let first = found.next().copied();
    match found.next() {
        Some(_) => Err(malformed(format!("capability {id} appears twice"))),
        None => Ok(first),
    }
}

/// The pairs of a capability that holds a counted list of them.
pub(crate) fn pairs(body: &[u8]) -> Result<Vec<Pair>> {
    let short = || malformed("a list capability is truncated".to_owned());
    let (head, rest) = ListHead::read_from_prefix(body).map_err(|_| short())?;
    // Allocate for the bytes that exist, not for the claimed count.
    let length = (head.count as usize).checked_mul(size_of::<Pair>());
    let list = length
        .and_then(|length| rest.get(..length))
        .ok_or_else(short)?;
    let pairs = list.chunks_exact(size_of::<Pair>());
    pairs
        .map(|pair| Pair::read_from_bytes(pair).map_err(|_| short()))
        .collect()
}

pub(crate) fn malformed(operation: String) -> Error {
    Error::new(ErrorKind::Malformed, operation)
}
