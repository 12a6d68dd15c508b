//! The kernel, by its release.

use hugebar::facts::Facts;
use hugebar::leaf::Bytes;

use super::step::Step;

const STEP: &str = "kernel";

/// Which leaves this kernel has for device memory, and which features came later.
pub(super) fn step(facts: &Facts) -> Step {
    let Some(kernel) = facts.kernel else {
        return Step::ok(STEP, format!("{}: unknown version", facts.release));
    };
    let features = facts.features();
    let largest = Bytes(facts.leaf_sizes.largest());
    let release = &facts.release;
    let mut fact = match features.huge_device_leaves() {
        Some(true) => format!("{kernel} has leaves up to {largest}"),
        Some(false) => {
            let fact = format!("{kernel} maps device memory in base pages only");
            return Step::warning(STEP, fact, "use Linux 6.12 or later");
        }
        None => format!(
            "{release} may have leaves up to {largest} or base pages only: large leaves came with 6.12 and may \
             have been backported"
        ),
    };
    for (has, minor, what) in [
        (features.dma_maps_by_leaf(), 15, "DMA maps by leaf"),
        (features.bars_as_dma_bufs(), 19, "BARs as dma-bufs"),
    ] {
        match has {
            Some(true) => (),
            Some(false) => fact.push_str(&format!("; {what} came with 6.{minor}")),
            None => fact.push_str(&format!("; {what} (6.{minor}) may have been backported")),
        }
    }
    match features.huge_device_leaves() {
        None => Step::warning(STEP, fact, "count the leaves with hugebar map"),
        _ => Step::ok(STEP, fact),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::step::Status;
    use hugebar::facts::KernelVersion;
    use hugebar::leaf::LeafSizes;

    fn said(release: &str) -> (Status, String) {
        let mut facts = Facts::observe();
        facts.leaf_sizes = LeafSizes::X86_64;
        facts.release = release.to_owned();
        facts.kernel = KernelVersion::parse(release);
        let step = step(&facts);
        (step.status, step.fact)
    }

    #[test]
    fn what_is_known_of_a_kernel_is_said_and_no_more() {
        for (release, status, fact) in [
            (
                "6.1.0-56-cloud-amd64",
                Status::Warning,
                "6.1.0 maps device memory in base pages only",
            ),
            (
                "6.12.107+deb13-cloud-amd64",
                Status::Ok,
                "6.12.107 has leaves up to 1 GiB; DMA maps by leaf came with 6.15; BARs as dma-bufs came \
                 with 6.19",
            ),
            ("7.3.4", Status::Ok, "7.3.4 has leaves up to 1 GiB"),
            (
                "6.14.0-24-generic",
                Status::Ok,
                "6.14.0 has leaves up to 1 GiB; DMA maps by leaf (6.15) may have been backported; \
                 BARs as dma-bufs (6.19) may have been backported",
            ),
            (
                "5.14.0-611.el9_7.x86_64",
                Status::Warning,
                "5.14.0-611.el9_7.x86_64 may have leaves up to 1 GiB or base pages only: large leaves came with 6.12 \
                 and may have been backported; DMA maps by leaf (6.15) may have been backported; \
                 BARs as dma-bufs (6.19) may have been backported",
            ),
            ("mystery", Status::Ok, "mystery: unknown version"),
        ] {
            assert_eq!(said(release), (status, fact.to_owned()));
        }
    }
}
