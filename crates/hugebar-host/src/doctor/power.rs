//! Power states of functions that reads must not change.

/// A power state from which the kernel wakes a device when its configuration space is read.
pub(crate) const OFF: &str = "D3cold";
