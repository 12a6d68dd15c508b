//! Capability chains behind the kernel's info structs: where each one lies, and nothing of what it
//! means.

use zerocopy::FromBytes;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::abi::{CapHeader, ListHead, Pair};

/// A capability as it came: its id and what stands behind its header, up to the end of the answer
/// (headers tell no length).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawCapability<'a> {
    pub(crate) id: u16,
    pub(crate) version: u16,
    pub(crate) body: &'a [u8],
}

/// Follows a chain through the bytes of an answer.
///
/// `base` is the size of the info struct, before which no capability can lie; `first` its
/// `cap_offset`, 0 for none. The kernel is not trusted: an offset that is out of bounds, unaligned or
/// was there before is an error.
pub(crate) fn chain(answer: &[u8], base: usize, first: u32) -> Result<Vec<RawCapability<'_>>> {
    let mut list = Vec::new();
    let mut seen = Vec::new();
    let mut next = first;
    while next != 0 {
        let wrong = |what| malformed(format!("capability at offset {next:#x} {what}"));
        let offset = next as usize;
        if offset < base || offset % align_of::<CapHeader>() != 0 {
            return Err(wrong("cannot start there"));
        }
        if seen.contains(&next) {
            return Err(wrong("comes twice in the chain"));
        }
        seen.push(next);
        let rest = answer.get(offset..).ok_or_else(|| wrong("is outside"))?;
        let (header, body) =
            CapHeader::read_from_prefix(rest).map_err(|_| wrong("has no room for its header"))?;
        list.push(RawCapability {
            id: header.id,
            version: header.version,
            body,
        });
        next = header.next;
    }
    Ok(list)
}

/// The pairs of a capability that holds a counted list of them.
pub(crate) fn pairs(body: &[u8]) -> Result<Vec<Pair>> {
    let short = || malformed("a list capability is cut short".to_owned());
    let (head, mut rest) = ListHead::read_from_prefix(body).map_err(|_| short())?;
    // The list grows by what is really there, not by what the count promises.
    let mut list = Vec::new();
    for _ in 0..head.count {
        let (pair, behind) = Pair::read_from_prefix(rest).map_err(|_| short())?;
        list.push(pair);
        rest = behind;
    }
    Ok(list)
}

pub(crate) fn malformed(operation: String) -> Error {
    Error::new(ErrorKind::Malformed, operation)
}
