//! BARs that another resource of the machine claims: a framebuffer, reserved memory.

use hugebar::pci::{Address, Function, Iomem, Resource};

use super::step::Step;
use crate::escape::Escaped;

const STEP: &str = "bar-held";

/// A step for each BAR that no program can map because another resource claims it; no steps if that is unknown.
pub(super) fn steps(function: &Function) -> Vec<Step> {
    let resources = function.resources().unwrap_or_default();
    let iomem = Iomem::read().unwrap_or_default();
    blocked(function.address(), &resources, &iomem)
}

fn blocked(function: Address, resources: &[Option<Resource>], iomem: &Iomem) -> Vec<Step> {
    let step = |bar| {
        let conflict = iomem.conflict(function, resources, bar)?;
        let holders = conflict.to_string();
        let fact = format!(
            "BAR {bar} is held by {}, so no program can map it",
            Escaped(&holders)
        );
        Some(Step::blocker(STEP, fact, conflict.remedy()))
    };
    (0..6).filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::step::Status;

    #[test]
    fn each_bar_that_is_held_blocks() {
        let lines = "\
0x00000000c0000000 0x00000000c0ffffff 0x0000000000040200
0x00000000c1000000 0x00000000c1ffffff 0x0000000000040200
0x00000000c2000000 0x00000000c2ffffff 0x0000000000040200
";
        let resources: Vec<_> = lines
            .lines()
            .map(|line| Resource::parse(line).unwrap())
            .collect();
        let iomem = Iomem::parse(
            "\
c0000000-c0ffffff : 0000:01:00.0
  c0000000-c0ffffff : BOOTFB
c1000000-c1ffffff : 0000:01:00.0
c2000000-c2ffffff : 0000:01:00.0
  c2000000-c2000fff : a\u{1b}[2J\u{202e}b
",
        );
        let steps = blocked("01:00.0".parse().unwrap(), &resources, &iomem);
        let facts: Vec<_> = steps.iter().map(|step| step.fact.as_str()).collect();
        assert_eq!(
            facts,
            [
                "BAR 0 is held by BOOTFB (0xc0000000-0xc0ffffff), so no program can map it",
                "BAR 2 is held by a\\u{1b}[2J\\u{202e}b (0xc2000000-0xc2000fff), so no program can map it"
            ]
        );
        for step in &steps {
            assert_eq!((step.step, step.status), ("bar-held", Status::Blocker));
        }
        assert!(
            steps[0]
                .remedy
                .as_ref()
                .unwrap()
                .contains("video=efifb:off")
        );
    }
}
