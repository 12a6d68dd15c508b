//! The machine that was measured.

use std::env::consts::ARCH;
use std::fs;
use std::thread;

use crate::escape::Escaped;

/// The machine that was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Machine {
    /// As [`std::env::consts::ARCH`] calls it.
    pub architecture: &'static str,
    /// The name of the processor (`/proc/cpuinfo`); arm64 has none there.
    pub processor: Option<String>,
    /// How many threads of the processor this process may use.
    pub threads: Option<usize>,
}

impl Machine {
    /// Reads it (`/proc/cpuinfo`, `sched_getaffinity`).
    pub fn observe() -> Self {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            architecture: ARCH,
            processor: processor(&text).map(|name| Escaped(name).to_string()),
            threads: thread::available_parallelism().ok().map(Into::into),
        }
    }
}

fn processor(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_processor_has_a_name() {
        let text = "processor\t: 0\nmodel name\t: QEMU TCG CPU version 2.5+\nflags\t: fpu\n";
        assert_eq!(super::processor(text), Some("QEMU TCG CPU version 2.5+"));
        assert_eq!(super::processor("processor\t: 0\n"), None);
    }
}
