//! What `--require` takes, and how `map` answers it.

use hugebar::leaf::{Bytes, LeafSizes};
use hugebar::verdict::Requirement;
use hugebar_host::measure::Measured;

use crate::failure::Failure;

/// Refuses a size that this machine has no leaves of.
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
        "--require: {} is no leaf size of this machine, which has {}",
        Bytes(size),
        known.join(", ")
    )))
}

/// What falls short of what is required: the BAR's number, and what came of it, of each that was mapped. `all` of them
/// were.
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
        return vec![format!("--require: no BAR has a block of {required}")];
    }
    let missing = concerned
        .into_iter()
        .filter(|(_, own)| !own.meets(required));
    let told = missing.map(|(bar, _)| format!("--require: BAR {bar} is not {required}"));
    told.collect()
}
