//! What `--require` takes.

use hugebar::leaf::{Bytes, LeafSizes};

use crate::args::Requirement;
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
