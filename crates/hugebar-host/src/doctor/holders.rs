//! The step for the processes that have a device open, or only mapped.

use std::path::Path;

use hugebar::facts::Facts;
use hugebar::pci::Function;

use super::step::Step;
use crate::error::Error;
use crate::inspect::holders::{self, Holders};
use crate::procfs;

const STEP: &str = "open";

/// The step for the processes that have the device. `own` is its own node.
pub(super) fn step(
    function: &Function,
    group: u32,
    own: Option<&Path>,
    facts: &Facts,
) -> Result<Step, Error> {
    Ok(judged(&holders::of(function, group, own, facts)?))
}

fn judged(holders: &Holders) -> Step {
    let found = [
        (&holders.open, "open"),
        (&holders.mapped, "mapped, though no longer open"),
    ];
    let found: Vec<_> = found
        .into_iter()
        .filter(|(names, _)| !names.is_empty())
        .map(|(names, how)| format!("{} has it {how}", names.join(", ")))
        .collect();
    if !found.is_empty() {
        let remedy = "end the process, or have it close and unmap the device";
        return Step::blocker(STEP, found.join("; "), remedy);
    }
    if !holders.perhaps.is_empty() {
        let names = holders.perhaps.join(", ");
        return Step::warning(
            STEP,
            format!("{names} has a device mapped that may be this one"),
            "if the device is busy, end that process",
        );
    }
    let mut unknown = Vec::new();
    if holders.unreadable > 0 {
        unknown.push(format!(
            "{} processes: <{}>",
            holders.unreadable,
            procfs::missing_privilege()
        ));
    }
    if holders.silent > 0 {
        let (count, plural) = (holders.silent, holders.silent > 1);
        let words = if plural {
            "processes do"
        } else {
            "process does"
        };
        unknown.push(format!("{count} {words} not answer"));
    }
    if let Some(which) = holders.hidden {
        unknown.push(format!("processes {which} are hidden"));
    }
    if unknown.is_empty() {
        return Step::ok(STEP, "no process has it open");
    }
    let fact = "no process visible to this user has it open";
    Step::ok(STEP, format!("{fact}; {}", unknown.join("; ")))
}
