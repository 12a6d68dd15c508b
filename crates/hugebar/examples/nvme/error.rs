//! Errors of any kind: this driver has nobody who would act on them.

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
