//! What this host can do for the command.

mod bars;
pub(crate) mod device;
pub(crate) mod health;
pub(crate) mod held;
mod holders;
pub(crate) mod nodes;
pub(crate) mod owner;
pub(crate) mod populate;
pub(crate) mod procfs;
mod rebar;
pub(crate) mod seen;
pub(crate) mod witness;
