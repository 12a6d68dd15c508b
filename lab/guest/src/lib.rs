//! The protocol between host and guest of the lab: PID 1's job, and the frames that it sends.
//!
//! The binary of this package is `init`, the guest's PID 1.

pub mod frame;
pub mod job;

pub use frame::{Frame, Kind};
pub use job::{Command, Job, Status, Thp};
