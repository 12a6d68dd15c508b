//! One file for each command.

pub(crate) mod bench;
pub(crate) mod bind;
mod change;
pub(crate) mod doctor;
mod export;
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod map;
pub(crate) mod plan;
mod report;
mod require;
pub(crate) mod resize;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod vf;
