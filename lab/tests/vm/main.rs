//! `hugebar` on real kernels: leaves, devices, errors.

mod backends;
mod bench;
mod bind;
mod cells;
mod device;
mod devices;
mod dma;
mod doctor;
mod errors;
mod firmware;
mod held;
mod inspect;
mod jails;
mod leaves;
mod matrix;
mod monitoring;
mod names;
mod nvme;
mod preload;
mod qemu;
mod report;
#[path = "../schema/mod.rs"]
mod schema;
mod stuck;
mod vf;
