//! One file for each command.

pub(crate) mod bind;
pub(crate) mod doctor;
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod map;
pub(crate) mod plan;
mod require;
pub(crate) mod resize;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod vf;
