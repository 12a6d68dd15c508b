//! hugebar for C and C++.
//!
//! `include/hugebar.h` is made from this crate's public items, and docs/c.md describes how to use it.
//!
//! Every function runs inside `error::call`, so that no panic reaches the caller, and finds its objects by
//! `handle`, so that a handle that was closed is an error instead of a use after free.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]
#![allow(unsafe_code, reason = "the border to C")]
#![allow(
    non_camel_case_types,
    reason = "types have the names that C programs know them by"
)]
#![allow(
    clippy::missing_safety_doc,
    reason = "the introduction of hugebar.h states once what holds for all pointers"
)]

mod argument;
mod handle;

pub mod access;
pub mod config;
pub mod device;
pub mod dma;
pub mod error;
pub mod interrupts;
pub mod leaf;
pub mod map;
pub mod plan;
pub mod reason;
pub mod report;
pub mod reset;
pub mod window;
