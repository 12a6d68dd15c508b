//! Errors of any kind, only to be printed.

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
