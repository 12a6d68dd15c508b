//! What this host can do for the command.

mod bars;
pub(crate) mod device;
pub(crate) mod health;
mod holders;
pub(crate) mod maps;
pub(crate) mod owner;
pub(crate) mod populate;
pub(crate) mod proc;
mod rebar;
pub(crate) mod seen;
pub(crate) mod witness;
