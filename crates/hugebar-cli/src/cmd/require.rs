//! Checks `--require`, and for `map` whether it is met.

use hugebar::leaf::{Bytes, LeafSizes};
use hugebar::verdict::Requirement;
use hugebar_host::measure::Measured;

use crate::failure::Failure;

/// Refuses a size that is not a leaf size of this machine.
pub(super) fn check(required: Option<Requirement>, sizes: &LeafSizes) -> Result<(), Failure> {
    let size = match required {
        Some(Requirement::Size(size)) if !sizes.as_slice().contains(&size) => size,
        _ => return Ok(()),
    };
    let known: Vec<_> = sizes
        .as_slice()
        .iter()
        .map(|&s| Bytes(s).to_string())
        .collect();
    Err(Failure::Usage(format!(
        "--require: {} is not a leaf size of this machine, which has {}",
        Bytes(size),
        known.join(", ")
    )))
}

/// Messages for the BARs that do not meet the requirement. `measured` has number and result of each BAR that was mapped,
/// `all` says whether no BAR failed.
pub(super) fn missed(
    measured: &[(u32, Measured)],
    required: Requirement,
    all: bool,
) -> Vec<String> {
    let concerned: Vec<_> = measured
        .iter()
        .filter(|(_, own)| required.concerns(&own.best))
        .collect();
    if concerned.is_empty() && all {
        return vec![format!("--require: no BAR has room for {required}")];
    }
    let missing = concerned
        .into_iter()
        .filter(|(_, own)| !own.meets(required));
    let told = missing.map(|(bar, _)| format!("--require: BAR {bar} is not {required}"));
    told.collect()
}
