//! Reasons: why a mapping has more leaves than the best possible, from the facts of this run.
//!
//! A reason is given only if the facts of the run support it. The count outweighs the version
//! number, because the THP gate differs between stable releases of the same kernel. Leaves that
//! no reason explains are reported as unexplained.

mod code;
mod degraded;
mod evidence;
mod placed;

use crate::error::{Error, ErrorKind};

pub use code::{Code, Reason};
pub use evidence::Evidence;

/// Explains why there are more leaves than this machine needs at least for a region of
/// this size; empty if there is nothing to explain.
pub fn explain(evidence: &Evidence<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if evidence.is_degraded() {
        reasons.push(degraded::degraded(evidence));
    }
    reasons.extend(placed::placed(evidence));
    reasons.extend(placed::best(evidence));
    reasons
}

/// Explains why the leaves of a mapping could not be counted, from the error of the census, and whether memory decode
/// of the device was on then ([`crate::vfio::Device::memory_decode`]), if known.
pub fn uncounted(error: &Error, decode: Option<bool>) -> Reason {
    if error.kind() == ErrorKind::NotMappableForDma && decode == Some(false) {
        return Reason::new(
            Code::DecodeOff,
            format!("{}, and memory decode of the device is off", error.fact()),
            "set bit 1 of the command register in configuration space",
        );
    }
    let remedy = error.remedy().unwrap_or("map it again and count again");
    Reason::new(Code::Unmeasured, error.fact(), remedy)
}
