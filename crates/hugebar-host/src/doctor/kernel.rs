//! The kernel, by its version.

use hugebar::facts::{Facts, KernelVersion};
use hugebar::leaf::Bytes;

use super::step::Step;

/// What leaves this kernel has for device memory, and what came later.
pub(super) fn step(facts: &Facts) -> Step {
    let Some(kernel) = facts.kernel else {
        return Step::ok("kernel", format!("{}: of no known version", facts.release));
    };
    let since = |minor| kernel >= KernelVersion::new(6, minor, 0);
    if facts.device_leaf_sizes() != facts.leaf_sizes {
        let fact = format!("{kernel} maps device memory in pages only");
        let remedy = "use Linux 6.12 or later; if the distribution has taken large leaves back to this one, \
                      hugebar map counts them";
        return Step::warning("kernel", fact, remedy);
    }
    let mut fact = format!(
        "{kernel} has leaves up to {}",
        Bytes(facts.leaf_sizes.largest())
    );
    for (minor, what) in [(15, "DMA maps by leaf"), (19, "BARs as dma-bufs")] {
        if !since(minor) {
            fact.push_str(&format!("; {what} came with 6.{minor}"));
        }
    }
    Step::ok("kernel", fact)
}
