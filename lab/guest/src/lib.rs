//! What the host and the guest of the lab agree on: the job that PID 1 is given, and the frames in which it answers.
//!
//! The binary of this package is `init`, the guest's PID 1.

pub mod frame;
pub mod job;

pub use frame::{Frame, Kind};
pub use job::{Command, Job, Status, Thp};
