//! One file for each command.

pub(crate) mod doctor;
pub(crate) mod inspect;
pub(crate) mod map;
mod require;
pub(crate) mod run;
