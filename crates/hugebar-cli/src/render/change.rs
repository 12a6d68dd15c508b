//! What the reports of commands that change a device have in common.

use std::fmt;

use serde::Serialize;

use hugebar_host::admin::{Plan, Use};

/// One use of a device.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct UseReport<'a> {
    code: &'a str,
    fact: &'a str,
    remedy: &'a str,
    can_be_forced: bool,
}

impl<'a> UseReport<'a> {
    /// The uses that a plan overrules.
    pub(super) fn of(plan: Option<&'a Plan>) -> Vec<Self> {
        let one = |own: &'a Use| Self {
            code: own.code,
            fact: &own.fact,
            remedy: &own.remedy,
            can_be_forced: own.can_be_forced,
        };
        let all = plan.into_iter().flat_map(|plan| &plan.uses);
        all.map(one).collect()
    }
}

/// The steps of a plan, as lines for a shell.
pub(super) fn steps(plan: Option<&Plan>) -> Vec<String> {
    let steps = plan.into_iter().flat_map(|plan| &plan.steps);
    steps.map(ToString::to_string).collect()
}

/// Prints only the steps, for a shell.
pub(super) fn write_steps(f: &mut fmt::Formatter<'_>, steps: &[String]) -> fmt::Result {
    steps.iter().try_for_each(|step| writeln!(f, "{step}"))
}

/// Ends the first line: with what there was before if that is something else, and the driver.
pub(super) fn write_change<T: fmt::Display + PartialEq>(
    f: &mut fmt::Formatter<'_>,
    (before, now): (T, T),
    of: Option<&str>,
) -> fmt::Result {
    if before != now {
        write!(f, " ({before} before)")?;
    }
    writeln!(f, ", {}", driver(of))
}

/// The name of a driver, for people.
pub(super) fn driver(name: Option<&str>) -> &str {
    name.unwrap_or("no driver")
}
