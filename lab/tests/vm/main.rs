//! `hugebar` on real kernels: leaves, devices, errors.

mod backends;
mod device;
mod doctor;
mod errors;
mod firmware;
mod held;
mod inspect;
mod jails;
mod leaves;
mod matrix;
mod names;
mod peer;
mod qemu;
mod report;
mod stuck;
